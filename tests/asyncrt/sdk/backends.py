"""Every test of the asynchronous client runs under asyncio and under trio.

@under_both
async def test_something(fake): ...
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

SECONDS = 60.0  # after which a test that waits for nothing is cancelled


def under_both(test: Callable[..., Awaitable[None]]) -> Any:
    """A test function for pytest; fixtures come by name as usual."""

    async def bounded(**fixtures: Any) -> None:
        with anyio.fail_after(SECONDS):
            await test(**fixtures)

    def run(backend: str, **fixtures: Any) -> None:
        anyio.run(functools.partial(bounded, **fixtures), backend=backend)

    given = inspect.signature(test)
    backend = inspect.Parameter("backend", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = given.replace(parameters=[backend, *given.parameters.values()])  # type: ignore[attr-defined]
    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return pytest.mark.parametrize("backend", ["asyncio", "trio"])(run)
