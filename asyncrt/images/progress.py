"""How far each blob is, as values on a trio channel.

    send, receive = trio.open_memory_channel(0)
    await pull(..., progress=send)            another job:  async for progress in receive: ...

The latest value of a blob replaces one that nobody has read yet, so a slow reader sees fewer steps, holds nobody up,
and still gets the last one of each.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from enum import Enum
from typing import NamedTuple

import trio

from asyncrt.errors import AsyncrtError
from asyncrt.model.descriptor import Descriptor

_STEP_SECONDS = 0.1
_LAST_SECONDS = 1.0  # for a reader to take the last values, when all is over


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    CHECKING = "checking"
    THERE = "there"  # nothing had to be moved
    MOUNTED = "mounted"  # the registry took it from another of its repositories
    DONE = "done"
    FAILED = "failed"


ENDS = frozenset({State.THERE, State.MOUNTED, State.DONE, State.FAILED})


class Progress(NamedTuple):
    """One blob. `note` says why, where a state has a reason."""

    digest: str
    media_type: str
    state: State
    done: int
    total: int
    note: str = ""


Post = Callable[[State, int, str], None]


class Board:
    """The latest of every blob, on its way to one channel; without a channel, nowhere."""

    def __init__(self, send: trio.MemorySendChannel[Progress] | None) -> None:
        self._send = send
        self._latest: dict[str, Progress] = {}
        self._news = trio.Event()
        self._closed = False

    def line(self, descriptor: Descriptor) -> Post:
        """What one blob posts its states by."""

        def post(state: State, done: int, note: str = "") -> None:
            if self._send is not None:
                size = descriptor.size
                self._latest[descriptor.digest] = Progress(
                    descriptor.digest, descriptor.media_type, state, done, size, note
                )
                self._news.set()

        return post

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Send until closed and empty, or until nobody reads any more."""
        if self._send is None:
            return
        try:
            while self._latest or not self._closed:
                await self._news.wait()
                self._news = trio.Event()
                latest, self._latest = self._latest, {}
                for progress in latest.values():
                    await self._send.send(progress)
                if not self._closed:
                    await trio.sleep(_STEP_SECONDS)
        except trio.BrokenResourceError:
            self._send = None


@contextlib.asynccontextmanager
async def posting(send: trio.MemorySendChannel[Progress] | None) -> AsyncIterator[Board]:
    """A board while the block lasts; what it still has is delivered at the end, if somebody takes it."""
    board = Board(send)
    failure: AsyncrtError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        try:
            yield board
        except AsyncrtError as error:
            failure = error  # raised below: the nursery would make a group of it
        finally:
            board.close()
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_SECONDS
    if failure is not None:
        raise failure
