"""asyncrt images: what is here, by name."""

from __future__ import annotations

import contextlib
import time

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, stamp, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import span, table
from asyncrt.cli.stats import size
from asyncrt.cli.verb import Verb
from asyncrt.model.image import ImageSummary

_HEAD = ("NAME", "DIGEST", "PLATFORM", "SIZE", "SINCE")
_SHORT = len("sha256:") + 12


def _images(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    with contextlib.closing(connect(places)) as client:
        found = client.images()
    if words.on("quiet"):
        for one in found:
            print(one.digest)
    elif as_json:
        show([{**msgspec.to_builtins(one), "updated": stamp(one.updated_ns)} for one in found])
    else:
        now = time.time_ns()
        table(_HEAD, [_row(one, now) for one in found])
    return 0


def _row(one: ImageSummary, now: int) -> list[str]:
    since = f"{span((now - one.updated_ns) / 1e9)} ago"
    return [one.name, one.digest[:_SHORT], one.platform or "-", size(one.size), since]


VERB = Verb(
    usage="images [-q] [--format json]",
    run=_images,
    flags=(
        Flag("quiet", "q", "", "the digests alone"),
        Flag("format", "", "json|table", "an array of objects, or the table"),
    ),
    most=0,
)
