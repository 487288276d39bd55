"""A container's log, read from its files: what was written when, in order, from when to when, or the last lines.

    replay = Replay(files, since_ns=..., tail=10)
    for entry in replay.entries(): ...      all that is there now; asked again, what came since

The files come as fds (model/log.py has their format), so a long log costs the supervisor nothing.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from asyncrt.model.log import RECORD, Arrival, Marks, arrivals, marks

MOST = 1 << 20  # bytes of one entry
_BACKWARDS = 64 * 1024  # bytes of one read in search of line ends


class Entry(NamedTuple):
    """`data` was written to `stream` ("stdout" or "stderr") and came at `time_ns`, in ns since 1970."""

    time_ns: int
    stream: str
    data: bytes


class Replay:
    """The files of one log, and how far they were read. The fds stay the caller's.

    `offsets`: the bytes of each stream that have been passed, shown or not. `missed`: bytes that a bounded log dropped
    before they were read.
    """

    def __init__(
        self, files: dict[str, int], since_ns: int = 0, until_ns: int | None = None, tail: int | None = None
    ) -> None:
        self.over = False
        """Was something met that is later than `until_ns`?"""
        self.missed = 0
        self._files = files
        self._since = since_ns
        self._until = until_ns if until_ns is not None else sys.maxsize
        self._at = self._marks()
        self._from = {"stdout": 0, "stderr": 0}
        if tail is not None:
            self._from = self._tail(tail)

    @property
    def offsets(self) -> dict[str, int]:
        return {"stdout": self._at.stdout, "stderr": self._at.stderr}

    def entries(self) -> Iterator[Entry]:
        """What is there now and was not passed yet."""
        for arrival in self._arrivals():
            if arrival.time_ns > self._until:
                self.over = True
                return
            begin = max(arrival.offset, self._from[arrival.stream])
            end = arrival.offset + arrival.length
            while arrival.time_ns >= self._since and begin < end:
                data = self._read(arrival.stream, min(MOST, end - begin), begin)
                if not data:
                    break
                yield Entry(arrival.time_ns, arrival.stream, data)
                begin += len(data)

    def rest(self) -> Iterator[Entry]:
        """Of a container that ended: bytes whose index record was never written (a full disk), with no time."""
        for stream, offset in self.offsets.items():
            while stream in self._files and not self.over and (data := self._read(stream, MOST, offset)):
                yield Entry(0, stream, data)
                offset += len(data)
                self._at = self._at._replace(**{stream: offset})

    def _marks(self) -> Marks:
        fd = self._files.get("marks")
        return marks(None if fd is None else functools.partial(os.pread, fd))

    def _arrivals(self) -> Iterator[Arrival]:
        """Those that are whole and not passed; where the log dropped what comes next, from its new beginning on."""
        if "index" not in self._files:
            return
        while True:
            begin = self._marks()
            if begin.entry > self._at.entry:
                self.missed += begin.stdout - self._at.stdout + begin.stderr - self._at.stderr
                self._at = begin
            for arrival in arrivals(functools.partial(os.pread, self._files["index"]), self._at):
                if arrival.stream not in self._files:
                    return  # it was made after the files were asked for: who follows asks again
                reached = arrival.offset + arrival.length
                self._at = self._at._replace(entry=self._at.entry + RECORD.size, **{arrival.stream: reached})
                yield arrival
            if self._marks().entry <= self._at.entry:
                return

    def _read(self, stream: str, size: int, offset: int) -> bytes:
        fd = self._files.get(stream)
        return os.pread(fd, size, offset) if fd is not None else b""

    def _tail(self, lines: int) -> dict[str, int]:
        """Where each stream's part of the last `lines` lines begins; lines are ordered by their ends."""
        before = self._at
        passed = [arrival for arrival in self._arrivals() if self._since <= arrival.time_ns <= self._until]
        starts, self._at = self.offsets, before
        open_lines: set[str] = set()  # streams of which a line is counted whose beginning was not met yet
        counted = 0
        for stream, position in self._line_ends(passed):
            if stream in open_lines:
                starts[stream] = position
                open_lines.remove(stream)
            if counted < lines:
                open_lines.add(stream)
                counted += 1
            elif not open_lines:
                break
        return {**starts, **dict.fromkeys(open_lines, 0)}

    def _line_ends(self, passed: Sequence[Arrival]) -> Iterator[tuple[str, int]]:
        """From the last to the first: a stream, and the offset behind a line of it. Its end ends a line, too."""
        seen: set[str] = set()
        for arrival in reversed(passed):
            stream, end = arrival.stream, arrival.offset + arrival.length
            if stream not in seen and self._read(stream, 1, end - 1) != b"\n":
                yield stream, end
            seen.add(stream)
            while end > arrival.offset:
                begin = max(arrival.offset, end - _BACKWARDS)
                data = self._read(stream, end - begin, begin)
                at = len(data)
                while (at := data.rfind(b"\n", 0, at)) >= 0:
                    yield stream, begin + at + 1
                end = begin
