"""asyncrt images: what is here, by name."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Sequence

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, stamp, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain, span, table
from asyncrt.cli.stats import size
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest, NoSuchObject
from asyncrt.model.image import ImageSummary

NONE = "<none>"
_DIGITS = 12  # of an id, as docker shows


def _images(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    full, digests = words.on("no-trunc"), words.on("digests")
    filters = [*words.all("filter"), *(f"reference={name}" for name in words.rest)]
    pairs = [_pair(text) for text in filters]
    with contextlib.closing(connect(places)) as client:
        every = client.images()
    found = [one for one in every if all(_passes(one, *pair, every) for pair in pairs)]
    if words.on("quiet"):
        for id in dict.fromkeys(_short(one.id or one.digest, full) for one in found):
            print(id)
    elif as_json:
        show([{**msgspec.to_builtins(one), "updated": stamp(one.updated_ns)} for one in found])
    else:
        now = time.time_ns()
        head = ["NAME", *(["DIGEST"] if digests else []), "IMAGE ID", "PLATFORM", "SIZE", "SINCE"]
        table(head, [_row(one, now, full, digests) for one in found])
    return 0


def _row(one: ImageSummary, now: int, full: bool, digests: bool) -> list[str]:
    since = f"{span((now - one.updated_ns) / 1e9)} ago"
    id = _short(one.id, full) if one.id else "-"
    return [one.name, *([one.digest] if digests else []), id, one.platform or "-", size(one.size), since]


def _short(digest: str, full: bool) -> str:
    return digest if full else digest.partition(":")[2][:_DIGITS]


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in ("dangling", "reference", "label", "before", "since"):
        hint = "dangling=true|false, reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE"
        raise BadRequest("read", "--filter", f'"{plain(text)}" is none', hint)
    if key == "dangling" and value not in ("true", "false", "1", "0"):
        raise BadRequest("read", "--filter", f'"{plain(text)}" is neither true nor false')
    return key, value


def _passes(one: ImageSummary, key: str, value: str, every: Sequence[ImageSummary]) -> bool:
    if key == "dangling":
        return (one.name == NONE) == (value in ("true", "1"))
    if key == "reference":
        repository = one.name.rpartition(":")[0] if ":" in one.name.rpartition("/")[2] else one.name
        return any(fnmatch.fnmatchcase(name, value) for name in (one.name, repository))
    if key == "label":
        name, equals, wanted = value.partition("=")
        return name in one.labels and (not equals or one.labels[name] == wanted)
    moments = [other.updated_ns for other in every if value in (other.name, other.id, other.digest)]
    moments += [other.updated_ns for other in every if f"{value}:latest" == other.name]
    moments += [other.updated_ns for other in every if other.id.partition(":")[2].startswith(value)]
    if not moments:
        raise NoSuchObject("find image", plain(value), "it is not here")
    return one.updated_ns < moments[0] if key == "before" else one.updated_ns > moments[0]


VERB = Verb(
    usage="images [-a] [-q] [--no-trunc] [--digests] [--filter KEY=VALUE] [--format json] [NAME]",
    run=_images,
    flags=(
        Flag("all", "a", "", "every one, as it does anyway: there are no hidden ones"),
        Flag("quiet", "q", "", "ids alone"),
        Flag("no-trunc", "", "", "whole ids"),
        Flag("digests", "", "", "those of the manifests"),
        Flag("filter", "f", "KEY=VALUE", "dangling, reference, label, before or since"),
        Flag("format", "", "json|table", "an array of objects, or the table"),
    ),
    most=1,
)
