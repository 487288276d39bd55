"""asyncrt history: the steps that an image was made in."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, since, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import cut, table
from asyncrt.cli.stats import size
from asyncrt.cli.verb import Verb

_HEAD = ("IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT")
_MISSING = "<missing>"
_WIDTH = 45  # columns, docker's


def _history(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    full, human = words.on("no-trunc"), not words.given("human") or words.on("human")
    with contextlib.closing(connect(places)) as client:
        (found,) = client.inspect_images(words.rest)
    steps = [{**step, "Id": found["Id"] if not place else _MISSING} for place, step in enumerate(found["History"])]
    if words.on("quiet"):
        for step in steps:
            print(_short(step["Id"], full))
    elif as_json:
        show(steps)
    else:
        now = time.time_ns()
        table(_HEAD, [_row(step, full, human, now) for step in steps])
    return 0


def _row(step: dict[str, Any], full: bool, human: bool, now: int) -> list[str]:
    by, comment = step["CreatedBy"], step["Comment"]
    return [
        _short(step["Id"], full),
        since(step["Created"], now) if human else step["Created"],
        by if full else cut(by, _WIDTH),
        size(step["Size"]) if human else str(step["Size"]),
        comment if full else cut(comment, _WIDTH),
    ]


def _short(id: str, full: bool) -> str:
    return id if full or id == _MISSING else id.removeprefix("sha256:")[:12]


VERB = Verb(
    usage="history [-q] [--no-trunc] [--format json] IMAGE",
    run=_history,
    flags=(
        Flag("quiet", "q", "", "ids alone"),
        Flag("no-trunc", "", "", "whole ids, commands and comments"),
        Flag("human", "H", "", "ages and sizes in words (true)"),
        Flag("format", "", "json|table", "an array of objects, or the table"),
    ),
    least=1,
    most=1,
    more="Sizes are those of the layers as they are stored.",
)
