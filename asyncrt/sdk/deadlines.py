"""Deadlines: `timeout=` of a call, in seconds, beside the cancel scopes of whoever calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import anyio

from asyncrt.errors import TimedOut


@contextlib.contextmanager
def within(seconds: float | None, deed: str, subject: str) -> Iterator[None]:
    """TimedOut, naming deed and subject, if the body takes longer; None: however long. Scopes around it go first."""
    if seconds is None:
        yield
        return
    with anyio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimedOut(deed, subject, f"not done within {seconds:g} s")
