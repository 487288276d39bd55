"""asyncrt top: the processes of a container."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, stamp, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import span, table
from asyncrt.cli.stats import size
from asyncrt.cli.verb import Verb
from asyncrt.model.stats import Process

_HEAD = ("PID", "INSIDE", "PARENT", "UID", "STATE", "STARTED", "CPU", "MEMORY", "COMMAND")


def _top(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    with contextlib.closing(connect(places)) as client:
        found = client.top(words.rest[0])
    if as_json:
        show([_document(one) for one in found])
    else:
        now = time.time_ns()
        table(_HEAD, [_row(one, now) for one in found])
    return 0


def _document(one: Process) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "started": stamp(one.started_ns)}


def _row(one: Process, now: int) -> list[str]:
    return [
        *map(str, (one.pid, one.inside, one.parent, one.uid)),
        one.state,
        f"{span((now - one.started_ns) / 1e9)} ago",
        f"{one.cpu_ns / 1e9:.2f} s",
        size(one.memory),
        one.command,
    ]


VERB = Verb(
    usage="top [--format json] CONTAINER",
    run=_top,
    flags=(Flag("format", "", "json|table", "an array of objects, or the table"),),
    least=1,
    most=1,
)
