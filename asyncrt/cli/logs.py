"""asyncrt logs: what a container wrote, in the order in which it was written.

The shim keeps three files: stdout and stderr as they came, and an index of them. We get their fds and read by
ourselves, so that a long log costs the supervisor nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
from collections.abc import Iterator

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Pumps
from asyncrt.cli.say import write_all
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError, Unavailable
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client

RECORD = struct.Struct("<QIB3x")  # ns since 1970, bytes, stream (1 stdout, 2 stderr)
_STREAMS = {1: "stdout", 2: "stderr"}
_BLOCK = 256 * 1024  # bytes of one copy


class Replay:
    """Copies the files to our stdout and stderr; `offsets`: bytes of each stream that have been shown."""

    def __init__(self, files: dict[str, int]) -> None:
        self.offsets = {"stdout": 0, "stderr": 0}
        self._files = files
        self._index_at = 0

    def show(self) -> None:
        """All that is there now: along the index, then what the index does not have yet."""
        for stream, count in runs(self._records()):
            self._copy(stream, self.offsets[_STREAMS[stream]] + count)
        for stream, name in _STREAMS.items():
            if name in self._files:
                self._copy(stream, os.fstat(self._files[name]).st_size)

    def _records(self) -> Iterator[tuple[int, int]]:
        """(stream, bytes) of each record that is whole."""
        if "index" not in self._files:
            return
        while True:
            data = os.pread(self._files["index"], RECORD.size * 4096, self._index_at)
            data = data[: len(data) - len(data) % RECORD.size]
            if not data:
                return
            self._index_at += len(data)
            for _, count, stream in RECORD.iter_unpack(data):
                if stream in _STREAMS:
                    yield stream, count

    def _copy(self, stream: int, end: int) -> None:
        name = _STREAMS[stream]
        while name in self._files and self.offsets[name] < end:
            at = self.offsets[name]
            data = os.pread(self._files[name], min(_BLOCK, end - at), at)
            if not data:
                return
            write_all(stream, data)
            self.offsets[name] += len(data)


def runs(records: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Records of one stream that follow one another, as one."""
    last, total = 0, 0
    for stream, count in records:
        if stream == last:
            total += count
            continue
        if total:
            yield last, total
        last, total = stream, count
    if total:
        yield last, total


def _logs(words: Words, places: Places) -> int:
    ref = words.rest[0]
    with contextlib.closing(connect(places)) as client:
        files = client.logs(ref)
        try:
            replay = Replay(files)
            replay.show()
            if words.on("follow"):
                return _follow(client, ref, replay)
        finally:
            close_all(files.values())
    return 0


def _follow(client: Client, ref: str, replay: Replay) -> int:
    """The rest as it comes, to the end of both streams. The shim holds our pipes: the supervisor may die."""
    while (container := client.inspect([ref])[0]).exit is None and container.state in ("creating", "created"):
        # Nothing writes yet; it may never be started, which ^C ends.
        select.select([], [], [], 0.2)
    if container.exit is not None or container.state == "stopped":
        replay.show()
        return 0
    with Pumps() as pumps:
        fds = [pumps.output("stdout", 1), pumps.output("stderr", 2)]
        try:
            client.attach(container.id, fds, stdout=replay.offsets["stdout"], stderr=replay.offsets["stderr"])
        except Unavailable:
            raise
        except AsyncrtError:
            # It ended in between, and then the files have everything.
            replay.show()
            return 0
        pumps.close_remote()
        poll = select.poll()
        poll.register(pumps, select.POLLIN)
        while pumps.open:
            poll.poll()
            pumps.woken()
        return pumps.failure()


VERB = Verb(
    usage="logs [-f] CONTAINER",
    run=_logs,
    flags=(Flag("follow", "f", "", "go on with what it writes until it ends"),),
    least=1,
    most=1,
)
