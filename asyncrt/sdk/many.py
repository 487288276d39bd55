"""Containers of one scope: started together, handed out as they start, removed together.

async with rt.run_many("host:", ["true"], count=300) as group:
    async for container in group:
        print(container.name, (await container.wait()).code)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import anyio

from asyncrt.errors import AsyncrtError, Unavailable, from_dict
from asyncrt.model.container import Exit
from asyncrt.model.options import Options
from asyncrt.model.protocol import Progress, Remove, Run, Wait
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.connection import AsyncAnswer, Connection, Reach
from asyncrt.sdk.container import Container, outcomes
from asyncrt.sdk.deadlines import within
from asyncrt.sdk.streams import ATTEMPTS

CLEAN_UP_SECONDS = 60.0  # in which what was started is removed, whatever the scopes around say
CHUNK = 500  # containers of one Remove


class Failed(NamedTuple):
    """A container that did not start: its number in the group, its name, and why."""

    number: int
    name: str
    error: AsyncrtError


class _Part:
    """One request of the group: `count` containers of the same options, the first of which is number `first`."""

    def __init__(self, first: int, options: Options, count: int) -> None:
        self.first = first
        self.options = options
        self.count = count
        self.answer: AsyncAnswer | None = None


class Group(AsyncIterator[Container]):
    """Iterating gives each container once it runs. What did not start raises there, or stands in `failed`.

    `containers` are those that were handed out, `failed` what did not start (empty where failures are raised).
    """

    def __init__(self, reach: Reach, specs: Sequence[tuple[Options, int]], strict: bool, timeout: float | None) -> None:
        self.containers: list[Container] = []
        self.failed: list[Failed] = []
        self._reach = reach
        self._strict = strict
        self._parts: list[_Part] = []
        self._ends_at = float("inf") if timeout is None else anyio.current_time() + timeout
        self._link: Connection | None = None
        self._made: dict[str, None] = {}  # their ids, from the first word of each on
        first = 0
        for options, count in specs:
            self._parts.append(_Part(first, options, count))
            first += count
        self.count = first

    async def _begin(self) -> None:
        for part in self._parts:
            part.answer, self._link = await self._reach.call(Run(part.options, part.count))

    async def __anext__(self) -> Container:
        """The next one that runs. TimedOut once the group's deadline is over, Unavailable if a supervisor dies."""
        left = self._ends_at - anyio.current_time()
        with within(None if left == float("inf") else max(0.0, left), "start", f"{self.count} containers"):
            while True:
                for part in self._parts:
                    if (container := self._next(part)) is not None:
                        return container
                open_ones = [part.answer for part in self._parts if part.answer is not None and not part.answer.done]
                if not open_ones:
                    raise StopAsyncIteration
                assert self._link is not None
                await self._link.pull(*open_ones)
        raise AssertionError("unreachable")

    def _next(self, part: _Part) -> Container | None:
        """A container of which it has come that it runs."""
        while part.answer is not None:
            try:
                item = next(part.answer.ready(), None)
            except AsyncrtError as error:  # the request was refused, or nobody answers any more
                part.answer = None
                if isinstance(error, Unavailable) or part.count > 1:
                    raise
                self._fail(part.first, part.options.name, error)
                return None
            if item is None:
                return None
            progress = self._hear(part, item)
            if progress.error is not None:
                self._fail(part.first + progress.index, progress.name, from_dict(progress.error))
            elif progress.step == "started":
                return self._started(part, progress)
        return None

    def _hear(self, part: _Part, item: tuple[Any, list[int]]) -> Progress:
        value, fds = item
        close_all(fds)
        progress = typed(value, Progress)
        self._made[progress.id] = None
        return progress

    def _started(self, part: _Part, progress: Progress) -> Container:
        container = Container(self._reach, progress.id, progress.name, part.options, part.first + progress.index)
        container._heard(progress)
        self.containers.append(container)
        return container

    def _fail(self, index: int, name: str, error: AsyncrtError) -> None:
        if self._strict:
            raise error
        self.failed.append(Failed(index, name, error))

    async def wait(self, timeout: float | None = None) -> list[Exit]:
        """How each of `containers` ended, in their order. Goes on when the supervisor dies."""
        with within(timeout, "wait for", f"{len(self.containers)} containers"):
            for attempt in range(ATTEMPTS):
                open_ones = [container for container in self.containers if container.exit is None]
                if not open_ones:
                    break
                try:
                    ends = await self._reach.ask(Wait(tuple(container.id for container in open_ones)))
                except Unavailable:
                    if attempt == ATTEMPTS - 1:
                        raise
                    continue
                for container, ended in zip(open_ones, typed(ends, list[Progress]), strict=True):
                    if ended.error is not None:
                        raise from_dict(ended.error)
                    container.exit = ended.exit
        return [container.exit for container in self.containers if container.exit is not None]

    async def _end(self) -> None:
        """Remove all that was made; bounded, whatever the scopes around say."""
        for container in self.containers:
            container.close()
        with anyio.CancelScope(shield=True), within(CLEAN_UP_SECONDS, "remove", f"{self.count} containers"):
            for part in self._parts:
                await self._settle(part)
            ids = list(self._made)
            for at in range(0, len(ids), CHUNK):
                await removed(self._reach, ids[at : at + CHUNK])

    async def _settle(self, part: _Part) -> None:
        """Hear the rest of an answer: what is on its way when the block is left is removed, too."""
        if part.answer is not None:
            with contextlib.suppress(AsyncrtError):
                async for item in part.answer:
                    self._hear(part, item)


async def removed(reach: Reach, ids: Sequence[str]) -> None:
    """Remove these, running or not; what is gone already is fine. A supervisor that dies meanwhile is asked again."""
    for attempt in range(ATTEMPTS):
        try:
            return await outcomes(reach, Remove(tuple(ids), force=True), missing_ok=True)
        except Unavailable:
            if attempt == ATTEMPTS - 1:
                raise


@contextlib.asynccontextmanager
async def group(
    reach: Reach, specs: Sequence[tuple[Options, int]], strict: bool, timeout: float | None
) -> AsyncIterator[Group]:
    """The containers while the block lasts. A failed clean-up is told beside what the block raised."""
    made = Group(reach, specs, strict, timeout)
    try:
        await made._begin()
        yield made
    except BaseException as error:
        try:
            await made._end()
        except AsyncrtError as trouble:
            error.add_note(f"left behind: {trouble}")
        raise
    else:
        await made._end()
