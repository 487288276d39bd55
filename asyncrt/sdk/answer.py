"""The answer to one call: Items as they come, then the End's value or the Failure as an error."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from asyncrt.errors import AsyncrtError, Unavailable, from_dict
from asyncrt.model.protocol import End, Failure, Item

T = TypeVar("T")


class Mail:
    """What has come of one answer, without the waiting. The fds belong to who takes them.

    Nothing is lost by leaving it half read: its frames are thrown away and their fds closed by `close()`.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.done = False
        self.on_stir: Callable[[], object] | None = None
        """Called when something comes; set by who waits in an event loop."""
        self._items: deque[tuple[Any, list[int]]] = deque()
        self._value: Any = None
        self._error: AsyncrtError | None = None
        self._abandoned = False

    @property
    def stirred(self) -> bool:
        """Is there something to take, or will nothing more come?"""
        return self.done or bool(self._items)

    def ready(self) -> Iterator[tuple[Any, list[int]]]:
        """Only what has come already; never blocks. Raises a Failure that has come."""
        while self._items:
            yield self._items.popleft()
        if self.done and self._error is not None:
            raise self._error

    def close(self) -> None:
        """Take no further interest in it."""
        self._abandoned = True
        while self._items:
            close_all(self._items.popleft()[1])

    def take(self, reply: Item | End | Failure, fds: list[int]) -> None:
        """Called by the exchange with each reply of this number."""
        if isinstance(reply, Item) and not self._abandoned:
            self._items.append((reply.value, fds))
            self._stir()
            return
        close_all(fds)
        if isinstance(reply, End):
            self.done, self._value = True, reply.value
            self._stir()
        elif isinstance(reply, Failure):
            self.fail(from_dict(reply.error))

    def fail(self, error: AsyncrtError) -> None:
        """It ends here with this error (a Failure, or the loss of the connection)."""
        if not self.done:
            self.done, self._error = True, error
            self._stir()

    def _stir(self) -> None:
        if self.on_stir is not None:
            self.on_stir()

    def verdict(self) -> Any:
        """Of one that is done: the End's value, or the Failure raised."""
        if self._error is not None:
            raise self._error
        return self._value


MailT = TypeVar("MailT", bound=Mail)


class Answer(Mail, Iterator[tuple[Any, list[int]]]):
    """Iterates over (value, fds) of each Item; `result()` gives the End's value. Both block."""

    def __init__(self, number: int, pull: Callable[[], object]) -> None:
        super().__init__(number)
        self._pull = pull

    def __next__(self) -> tuple[Any, list[int]]:
        """The next Item; blocks. Raises the Failure once the Items before it were taken."""
        while not self.stirred:
            self._pull()
        if self._items:
            return self._items.popleft()
        self.verdict()
        raise StopIteration

    def result(self) -> Any:
        """The End's value; Items not taken are dropped. Blocks; raises the Failure."""
        for _, fds in self:
            close_all(fds)
        return self._value


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def typed(value: Any, kind: type[T]) -> T:
    """A value as it came over the wire in the type that the protocol promises."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        hint = "stop it with: asyncrt daemon stop (containers go on)"
        raise Unavailable("read", "the supervisor's answer", str(error).lower(), hint) from error


def each(answer: Answer, kind: type[T]) -> Iterator[T]:
    """The Items of an answer in that type; fds that nobody expected are closed."""
    for value, fds in answer:
        close_all(fds)
        yield typed(value, kind)
