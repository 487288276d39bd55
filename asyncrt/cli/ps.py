"""asyncrt ps: list containers, the newest first."""

from __future__ import annotations

import contextlib
import shlex
import time

from asyncrt.cli.connect import connect
from asyncrt.cli.document import listed, show, status, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import cut, span, table
from asyncrt.cli.verb import Verb
from asyncrt.model.container import Container

_SHORT = 12  # digits of an id, as docker shows
_COMMAND = 20  # columns
_HEAD = ("CONTAINER ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PID")


def _ps(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    with contextlib.closing(connect(places)) as client:
        found = client.containers(all=words.on("all"))
    found.sort(key=lambda container: (container.created_ns, container.index), reverse=True)
    now, full = time.time_ns(), words.on("no-trunc")
    if words.on("quiet"):
        for container in found:
            print(container.id if full else container.id[:_SHORT])
    elif as_json:
        show([listed(container, now) for container in found])
    else:
        table(_HEAD, [_row(container, now, full) for container in found])
    return 0


def _row(container: Container, now: int, full: bool) -> list[str]:
    options = container.options
    command = shlex.join([*options.entrypoint, *options.args])
    return [
        container.id if full else container.id[:_SHORT],
        container.name,
        container.image or options.image,
        f'"{command if full else cut(command, _COMMAND)}"',
        f"{span((now - container.created_ns) / 1e9)} ago",
        status(container, now),
        str(container.pid) if container.pid and container.state in ("running", "paused") else "-",
    ]


VERB = Verb(
    usage="ps [-a] [-q] [--no-trunc] [--format json]",
    run=_ps,
    flags=(
        Flag("all", "a", "", "also those that do not run"),
        Flag("quiet", "q", "", "ids alone"),
        Flag("no-trunc", "", "", "whole ids and commands"),
        Flag("format", "", "json|table", "an array of objects, or the table"),
    ),
    most=0,
)
