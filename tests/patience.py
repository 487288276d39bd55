"""Waiting for a fact: every wait of a test ends, and says what it waited for."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SLOWNESS = float(os.environ.get("ASYNCRT_TEST_SLOWNESS", "1"))
"""By how much longer than anywhere else everything may take: in an emulated machine a command has its seconds."""


def until(fact: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """The first true value of `fact`, asked every 10 ms; AssertionError names `what` after `seconds`."""
    seconds *= SLOWNESS
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)
    return value
