"""The half-close of a stdin: nothing that lies in the client's pipe is passed over."""

import os
import select
from collections.abc import Callable

from shimd.server.stdin import Stdin


class Loop:
    """Remembers what it is asked to watch; the test says when something happens."""

    def __init__(self) -> None:
        self.watched: dict[int, int] = {}

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self.watched[fd] = events

    def unwatch(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        raise AssertionError("nothing here waits for a time")


class LateRoom(Stdin):
    """Finds the container's pipe full once; when it looks why, the container has read."""

    __slots__ = ("full",)

    def move(self) -> int:
        if self.full:
            self.full = False
            raise BlockingIOError
        return super().move()


def test_room_that_comes_while_one_looks_is_no_end() -> None:
    theirs, pipe = os.pipe()
    source, client = os.pipe()
    loop = Loop()
    stdin = LateRoom(loop, pipe)
    stdin.full = True
    os.write(client, b"last words")
    assert stdin.take(source, False) == ""
    assert stdin.close_when_drained()
    assert stdin.pipe == pipe, "there is something left to take"
    assert loop.watched[pipe] == select.POLLOUT
    stdin.reader_event(select.POLLOUT)
    assert stdin.pipe == -1
    assert os.read(theirs, 100) == b"last words"
    assert os.read(theirs, 100) == b""
    for fd in (theirs, client):
        os.close(fd)


def test_room_that_comes_while_one_looks_is_no_end_of_the_next_one() -> None:
    """The first client has gone and said all; the pipe was full when the shim looked whether that was so."""
    theirs, pipe = os.pipe()
    source, client = os.pipe()
    following, second = os.pipe()
    loop = Loop()
    stdin = LateRoom(loop, pipe)
    stdin.full = False
    assert stdin.take(source, False) == ""
    os.close(client)
    stdin.full = True
    assert stdin.take(following, False) == ""
    os.write(second, b"second")
    stdin.full = True
    assert stdin.close_when_drained()
    assert stdin.pipe == pipe, "the next one has not been asked"
    stdin.reader_event(select.POLLOUT)
    assert stdin.pipe == -1
    assert os.read(theirs, 100) == b"second"
    for fd in (theirs, second):
        os.close(fd)
