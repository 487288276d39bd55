"""A container's log as the shim leaves it on disk, for who reads it: raw streams, an index of arrivals, marks.

    stdout, stderr   the bytes, each at its offset in the stream
    index            a record per arrival, in their order: time (ns since 1970), length, stream number
    marks            only if the log has a bound: where index, stdout and stderr begin, in bytes

A log with a bound drops its oldest arrivals: the files keep their offsets and get holes in front. So who reads along
while the container writes reads the marks again afterwards: what lies before them then may have been a hole already.

    index, begin = functools.partial(os.pread, fd), marks(functools.partial(os.pread, marks_fd))
    for arrival in arrivals(index, begin): ...
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

RECORD = struct.Struct("<QIB3x")
MARKS = struct.Struct("<QQQ")
STREAMS = {1: "stdout", 2: "stderr"}

Read = Callable[[int, int], bytes]
"""(bytes, offset) to what a file has there, as os.pread() without its fd."""


class Marks(NamedTuple):
    """Where the files begin, in bytes; what begins in the index there begins in the streams there."""

    entry: int = 0
    stdout: int = 0
    stderr: int = 0


class Arrival(NamedTuple):
    """`length` bytes of `stream` ("stdout" or "stderr") that came at `time_ns` and lie at `offset`."""

    time_ns: int
    stream: str
    offset: int
    length: int


def marks(read: Read | None) -> Marks:
    """What the marks file says; read until two readings agree, as the shim may be writing. None: there is no bound."""
    if read is None:
        return Marks()
    while True:
        data = read(MARKS.size, 0)
        if data == read(MARKS.size, 0):
            return Marks(*MARKS.unpack(data)) if len(data) == MARKS.size else Marks()


def arrivals(read: Read, begin: Marks) -> Iterator[Arrival]:
    """All that the index has now, from the marks on; `read` reads the index.

    It ends where it meets a hole: those arrivals have been dropped since the marks were read.
    """
    offsets = {"stdout": begin.stdout, "stderr": begin.stderr}
    at = begin.entry
    while True:
        data = read(RECORD.size * 4096, at)
        data = data[: len(data) - len(data) % RECORD.size]
        if not data:
            return
        at += len(data)
        for time_ns, length, number in RECORD.iter_unpack(data):
            stream = STREAMS.get(number)
            if stream is None:
                return
            yield Arrival(time_ns, stream, offsets[stream], length)
            offsets[stream] += length
