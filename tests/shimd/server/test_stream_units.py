"""A stream by itself: what a disk that fills up between two writes does to log and index."""

import os
import select
from collections.abc import Callable
from pathlib import Path

from shimd.server.log import INDEX, Log
from shimd.server.streams import Stream


class Later:
    """A loop that does nothing by itself."""

    def __init__(self) -> None:
        self.watched: set[int] = set()
        self.timers: list[Callable[[], None]] = []

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self.watched.add(fd)

    def unwatch(self, fd: int) -> None:
        self.watched.discard(fd)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        self.timers.append(action)


def test_the_index_is_paid_once_there_is_room(tmp_path: Path) -> None:
    loop, ended = Later(), []
    read, write = os.pipe()
    os.set_blocking(read, False)
    log = Log(str(tmp_path))
    stream = Stream(loop, log, 1, read, lambda: ended.append(True))
    os.write(write, b"first")
    stream.readable(select.POLLIN)
    assert stream.size == 5
    # The log has room yet, the index has none.
    index, full = os.dup(log.index), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log.index)
    os.write(write, b"second")
    stream.readable(select.POLLIN)
    assert (stream.size, stream.stalled, loop.watched) == (11, True, set())
    # Still none: it is asked for again, and nothing is counted twice.
    loop.timers.pop()()
    assert (stream.size, stream.stalled) == (11, True)
    os.dup2(index, log.index)
    os.close(write)
    loop.timers.pop()()
    assert (stream.stalled, ended) == (False, [True])
    records = list(INDEX.iter_unpack((tmp_path / "index").read_bytes()))
    assert [record[1:] for record in records] == [(5, 1), (6, 1)]
    assert (tmp_path / "stdout").read_bytes() == b"firstsecond"
    for fd in (index, full, log.index, log.files[1]):
        os.close(fd)
