"""Several jobs at once, of which the first failure is the failure: the others are cancelled, and one line is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from asyncrt.errors import AsyncrtError


async def together(jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Return when all have; raise what failed first."""
    failures: list[AsyncrtError] = []

    async def run(job: Callable[[], Awaitable[None]], nursery: trio.Nursery) -> None:
        try:
            await job()
        except AsyncrtError as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(run, job, nursery)
    if failures:
        raise failures[0]
