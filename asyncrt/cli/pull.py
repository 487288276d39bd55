"""asyncrt pull: fetch images and unpack them."""

from __future__ import annotations

import contextlib

from asyncrt.cli import fetching
from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.model.image_requests import Pull


def _pull(words: Words, places: Places) -> int:
    what = "digest" if words.on("quiet") else "name"
    with contextlib.closing(connect(places)) as client:
        # All are asked for at once: they share what they have in common.
        asked = [(ref, client.call(Pull(ref, words.one("platform")))) for ref in words.rest]
        return fetching.move(words, asked, lambda ref, told: str(told[what]))


VERB = Verb(
    usage="pull [-q] [--platform OS/ARCH] [--format json] IMAGE...",
    run=_pull,
    flags=(
        Flag("quiet", "q", "", "the digests alone"),
        Flag("platform", "", "OS/ARCH", "as in linux/arm64; this machine's unless told"),
        Flag("format", "", "json|table", "an object a step, or words"),
    ),
    least=1,
)
