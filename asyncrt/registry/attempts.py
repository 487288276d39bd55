"""What is tried again, and when.

    wait = base * 2^n, up to a longest, and of that a random part: many clients do not come back in step
    Retry-After goes before that, up to a longest; who asks for more is told to the user instead

Sources: RFC 9110 section 10.2.3; "Exponential Backoff And Jitter" (the AWS Architecture blog, 2015) for the full
jitter.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

import trio

from asyncrt.registry.failures import Passing

_T = TypeVar("_T")


class Policy(NamedTuple):
    """How often, and how long. Seconds."""

    attempts: int = 5
    base: float = 0.25
    longest: float = 10.0
    longest_asked: float = 60.0

    def wait(self, failed: int) -> float:
        """Seconds until the next attempt, after `failed` ones."""
        ceiling = min(self.longest, self.base * 2.0 ** min(failed, 30))
        return random.uniform(ceiling / 2, ceiling)


POLICY = Policy()


def retry_after(text: str, now: float | None = None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None if it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return max(0.0, when - (time.time() if now is None else now))


async def pause(error: Passing, failed: int, policy: Policy) -> None:
    """Wait before the next attempt, or raise `error` if there is none."""
    asked = error.after
    if failed >= policy.attempts or (asked is not None and asked > policy.longest_asked):
        raise error
    await trio.sleep(policy.wait(failed - 1) if asked is None else asked)


async def insist(do: Callable[[], Awaitable[_T]], policy: Policy) -> _T:
    """What `do` gives in the end; each of its Passing failures is followed by a wait and another attempt."""
    failed = 0
    while True:
        try:
            return await do()
        except Passing as error:
            failed += 1
            await pause(error, failed, policy)
