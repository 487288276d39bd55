"""A value that one job will give and others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Promise(Generic[T]):
    """set() or fail() once; later calls are ignored, since a conversation may end twice (a reply, then EOF)."""

    __slots__ = ("_error", "_event", "_value", "on_failure")

    def __init__(self) -> None:
        self.on_failure: Callable[[Exception], None] | None = None
        """Told of fail(), at once."""
        self._event = trio.Event()
        self._value: T | None = None
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        return self._event.is_set()

    def set(self, value: T) -> None:
        if not self.done:
            self._value = value
            self._event.set()

    def fail(self, error: Exception) -> None:
        if not self.done:
            self._error = error
            self._event.set()
            if self.on_failure is not None:
                self.on_failure(error)

    async def wait(self) -> T:
        """The value, or the error that fail() gave."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set() put a T there
