"""asyncrt logs: what a container wrote, in the order in which it was written.

The shim keeps its files (model/log.py); we get their fds and read by ourselves, so that a long log costs the supervisor
nothing. To follow we subscribe to the output as well: what comes through that pipe is thrown away, and tells that there
is something to read.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.moments import moment, stamp
from asyncrt.cli.places import Places
from asyncrt.cli.say import say, write_all
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError, BadRequest, Unavailable
from asyncrt.model.container import Container
from asyncrt.model.protocol import Attach
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client
from asyncrt.sdk.logs import Entry, Replay

TARGETS = {"stdout": 1, "stderr": 2}
_BLOCK = 64 * 1024  # bytes of one write, where arrivals are short
_NOT_YET = 0.2  # seconds between looks at a container that was not started


class Show:
    """Entries to our stdout and stderr; with `stamps` each line has the time of its first byte before it."""

    def __init__(self, stamps: bool) -> None:
        self._stamps = stamps
        self._open = dict.fromkeys(TARGETS, False)  # whether a stream is in the middle of a line

    def all(self, entries: Iterable[Entry]) -> None:
        """Those of one stream that follow one another in one write."""
        stream, held = "", bytearray()
        for entry in entries:
            if entry.stream != stream or len(held) >= _BLOCK:
                self._write(stream, held)
                stream, held = entry.stream, bytearray()
            held += self._stamped(entry) if self._stamps else entry.data
        self._write(stream, held)

    def _write(self, stream: str, data: bytearray) -> None:
        if data:
            write_all(TARGETS[stream], bytes(data))

    def _stamped(self, entry: Entry) -> bytes:
        prefix = stamp(entry.time_ns) + b" "
        lines = entry.data.splitlines(keepends=True) if b"\r" not in entry.data else _lines(entry.data)
        begun, self._open[entry.stream] = self._open[entry.stream], not entry.data.endswith(b"\n")
        return (b"" if begun else prefix) + prefix.join(lines)


def _lines(data: bytes) -> list[bytes]:
    """As splitlines(), which takes a carriage return for a line end; a terminal's output is full of them."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


class Reading:
    """One `logs` command."""

    def __init__(self, client: Client, words: Words) -> None:
        self.client = client
        now = time.time_ns()
        (container,) = client.inspect(words.rest)
        self.id = container.id
        self._since = moment(words.one("since"), "--since", now) if words.given("since") else 0
        self._until = moment(words.one("until"), "--until", now) if words.given("until") else None
        self._tail = _count(words)
        self._show = Show(words.on("timestamps"))
        self._files: dict[str, int] = {}
        self._replay: Replay | None = None

    def close(self) -> None:
        close_all(self._files.values())

    def show(self) -> bool:
        """All that is there now; False once what comes is later than what was asked for."""
        if len(self._files.keys() & {"stdout", "stderr", "index"}) < 3:  # they are made with the first byte
            for name, fd in self.client.logs(self.id).items():
                if name in self._files:
                    os.close(fd)
                else:
                    self._files[name] = fd
        if self._replay is None and "index" in self._files:
            self._replay = Replay(self._files, self._since, self._until, self._tail)
        if self._replay is None:
            return True
        missed = self._replay.missed
        self._show.all(self._replay.entries())
        if self._replay.missed > missed:
            say(f"the log has dropped {self._replay.missed - missed} bytes")
        return not self._replay.over

    def rest(self) -> None:
        """Of one that ended."""
        if self.show() and self._replay is not None:
            self._show.all(self._replay.rest())

    def offsets(self) -> tuple[int, int]:
        passed = self._replay.offsets if self._replay is not None else dict.fromkeys(TARGETS, 0)
        return passed["stdout"], passed["stderr"]

    def record(self) -> Container:
        (container,) = self.client.inspect([self.id])
        return container


def _logs(words: Words, places: Places) -> int:
    reading = Reading(connect(places), words)
    try:
        if not words.on("follow"):
            reading.rest() if _over(reading.record()) else reading.show()
            return 0
        while True:
            try:
                if not reading.show() or _ended(reading) or not _follow(reading):
                    return 0
            except Unavailable:  # the shim goes on, and so do we with whoever comes next
                reading.client.close()
                reading.client = connect(places)
    finally:
        reading.close()
        reading.client.close()


def _over(container: Container) -> bool:
    return container.exit is not None or container.state == "stopped"


def _ended(reading: Reading) -> bool:
    """Show the rest of one that ended. One that was not started is waited for, which ^C ends."""
    while (container := reading.record()).exit is None and container.state in ("creating", "created"):
        select.select([], [], [], _NOT_YET)
    if _over(container):
        reading.rest()
    return _over(container)


def _follow(reading: Reading) -> bool:
    """What comes, to the end of both streams; False once nothing more will be shown.

    Raises Unavailable where the subscription may have been lost with a supervisor.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            answer = reading.client.call(Attach(reading.id, False, *reading.offsets()), [write_end, write_end])
        finally:
            os.close(write_end)
        try:
            answer.result()
        except Unavailable:
            raise
        except AsyncrtError:
            reading.rest()  # it ended in between, or its log has dropped what we were at
            return not _over(reading.record())
        while os.read(read_end, _BLOCK):
            if not reading.show():
                return False
        reading.rest()
        # A supervisor that died, or a bound, ends a subscription, too.
        return not _over(container := reading.record()) and bool(container.options.log_max_bytes)
    finally:
        os.close(read_end)


def _count(words: Words) -> int | None:
    text = words.one("tail", "all")
    if text == "all":
        return None
    if not text.removeprefix("-").isdecimal():
        raise BadRequest("read", "--tail", f'"{text}" is no number of lines', 'or "all"')
    return None if text.startswith("-") else int(text)


VERB = Verb(
    usage="logs [FLAGS] CONTAINER",
    run=_logs,
    flags=(
        Flag("follow", "f", "", "go on with what it writes until it ends"),
        Flag("since", "", "TIME", "what came since then: 10m ago, or 2026-01-31T12:00:00Z"),
        Flag("until", "", "TIME", "what came before then"),
        Flag("tail", "n", "N", "the last N lines; all unless told"),
        Flag("timestamps", "t", "", "before each line, when it came"),
    ),
    least=1,
    most=1,
)
