"""asyncrt stats: what containers use, once or as it changes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Sequence

import msgspec

from asyncrt.cli.connect import connect
from asyncrt.cli.document import stamp, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain, table
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest
from asyncrt.model.stats import Stats

_HEAD = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "PIDS", "BLOCK I/O")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_CLEAR = "\x1b[H\x1b[2J"  # to the top left, and all away


def size(count: int) -> str:
    """Bytes as docker shows them: 3 digits and a unit."""
    if count < 0:
        return "-"
    value, unit = float(count), _UNITS[0]
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.4g}{unit}"


def _stats(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    stream = not words.on("no-stream")
    interval = _interval(words.one("interval", "1"))
    with contextlib.closing(connect(places)) as client:
        for samples in client.stats(words.rest, interval, stream):
            if as_json:
                _lines(samples)
            else:
                if stream and sys.stdout.isatty():
                    sys.stdout.write(_CLEAR)
                table(_HEAD, [_row(one) for one in samples])
            sys.stdout.flush()
    return 0


def _interval(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest("read", "--interval", f'"{plain(text)}" is no number of seconds') from None


def _lines(samples: Sequence[Stats]) -> None:
    """An object a line: machines read the stream as it comes."""
    for one in samples:
        print(json.dumps({**msgspec.to_builtins(one), "time": stamp(one.time_ns)}, ensure_ascii=False))


def _row(one: Stats) -> list[str]:
    limit = size(one.memory_limit) if one.memory_limit else "-"
    share = f"{one.memory / one.memory_limit * 100:.2f}%" if one.memory_limit and one.memory >= 0 else "-"
    return [
        one.id[:12],
        one.name,
        f"{one.cpu_percent:.2f}%" if one.cpu_percent >= 0 else "-",
        f"{size(one.memory)} / {limit}",
        share,
        str(one.pids) if one.pids >= 0 else "-",
        f"{size(one.read_bytes)} / {size(one.written_bytes)}",
    ]


VERB = Verb(
    usage="stats [--no-stream] [--interval SECONDS] [--format json] [CONTAINER...]",
    run=_stats,
    flags=(
        Flag("no-stream", "", "", "one sample; CPU is the mean since the start"),
        Flag("interval", "", "SECONDS", "between two samples; 1 unless told"),
        Flag("format", "", "json|table", "an object a line, or the table"),
    ),
)
