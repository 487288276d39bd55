"""What goes on and on: a container's log, the engine's events. Both go on with the next supervisor when one dies."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator

import anyio.lowlevel

from asyncrt.errors import Unavailable
from asyncrt.model.container import Container as Record
from asyncrt.model.events import Event
from asyncrt.model.protocol import Attach, Events, Info, Inspect, Logs, PressureOf
from asyncrt.model.stats import Pressure
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.connection import AsyncAnswer, Connection, Reach
from asyncrt.sdk.logs import Entry, Replay
from asyncrt.sdk.pipes import Source
from asyncrt.sdk.streams import ATTEMPTS


class Log(AsyncIterator[Entry]):
    """Iterates over a container's log. aclose() lets go of its files, as the end does.

    The bytes are read from the log's files. To follow is to be subscribed to the output as well: what comes through
    that pipe is thrown away, and tells that there is something to read.
    """

    def __init__(
        self, reach: Reach, id: str, follow: bool, since_ns: int, until_ns: int | None, tail: int | None
    ) -> None:
        self._reach = reach
        self._id = id
        self._follow = follow
        self._wish = (since_ns, until_ns, tail)
        self._files: dict[str, int] = {}
        self._replay: Replay | None = None
        self._ready: deque[Entry] = deque()
        self._bell: Source | None = None
        self._link: Connection | None = None
        self._over = False

    async def __anext__(self) -> Entry:
        """The next arrival. Raises Conflict for a container without a log, NoSuchObject, Unavailable."""
        while not self._ready:
            if self._over:
                self.close()
                raise StopAsyncIteration
            await self._more()
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Let go of it. Safe to repeat."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As aclose()."""
        self._over = True
        files, self._files = self._files, {}
        close_all(files.values())
        if self._bell is not None:
            self._bell.close()

    async def _more(self) -> None:
        replay = await self._opened()
        self._ready.extend(replay.entries())
        if self._ready:
            return
        if not self._follow or replay.over:
            self._ready.extend(replay.rest())
            self._over = True
        elif self._bell is None:
            await self._subscribe(replay)
        elif not await self._bell.receive():
            self._bell.close()
            self._bell = None
            await self._look_for_the_end(replay)

    async def _opened(self) -> Replay:
        """The files; asked for again as long as the container has said nothing."""
        if self._replay is None or "index" not in self._files:
            answer, _ = await self._reach.call(Logs(self._id))
            files: dict[str, int] = {}
            async for names, fds in answer:
                files.update(zip(typed(names, list[str]), fds, strict=True))
            close_all(self._files.values())
            self._files = files
            since, until, tail = self._wish
            self._replay = Replay(self._files, since, until, tail)
        elif len(self._files) < 3:  # the second stream's file is made with its first byte
            answer, _ = await self._reach.call(Logs(self._id))
            async for names, fds in answer:
                for name, fd in zip(typed(names, list[str]), fds, strict=True):
                    if name in self._files:
                        os.close(fd)
                    else:
                        self._files[name] = fd
        return self._replay

    async def _subscribe(self, replay: Replay) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        bell = Source(read_end)
        try:
            wish = Attach(self._id, False, replay.offsets["stdout"], replay.offsets["stderr"])
            answer, self._link = await self._reach.call(wish, [write_end, write_end])
            await answer.result()
        except BaseException:
            bell.close()
            raise
        finally:
            os.close(write_end)
        self._bell = bell

    async def _look_for_the_end(self, replay: Replay) -> None:
        """Both streams ended, or a supervisor did that had been asked for them."""
        for attempt in range(ATTEMPTS):
            try:
                (record,) = typed(await self._reach.ask(Inspect((self._id,))), list[Record])
                break
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
        else:
            return
        alive = self._link is not None and self._link.lost is None
        if record.exit is not None or (alive and not record.options.log_max_bytes):
            self._follow = False  # what there is now is all


class EventStream(AsyncIterator[Event]):
    """Iterates over what happens, without a gap: a supervisor that dies is asked again behind the last one seen.

    Over a connection of its own, which aclose() closes; `seen` is the number of the last event handed out.
    """

    def __init__(self, reach: Reach, after: int, follow: bool) -> None:
        self.seen = after
        self._reach = reach
        self._follow = follow
        self._link: Connection | None = None
        self._answer: AsyncAnswer | None = None

    async def __anext__(self) -> Event:
        """The next event. Conflict where events behind `after` are forgotten; Unavailable after five dead supervisors
        in a row."""
        dead = 0
        while True:
            try:
                if self._answer is None:
                    self._answer = await self._asked()
                value, fds = await anext(self._answer)
            except Unavailable:
                dead += 1
                await self._drop()
                if dead >= ATTEMPTS:
                    raise
                continue
            except StopAsyncIteration:
                await self._drop()
                raise
            close_all(fds)
            event = typed(value, Event)
            self.seen = event.seq
            return event

    async def _asked(self) -> AsyncAnswer:
        self._link = await self._reach.another()
        if self.seen < 0:
            # From now on: the number that "now" has is what a successor would be asked for.
            self.seen = int((await self._link.ask(Info()))["last_event"])
        return await self._link.call(Events(self.seen, self._follow))

    async def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._answer = None

    async def aclose(self) -> None:
        """Take no further interest. Safe to repeat."""
        await self._drop()


class PressureStream(AsyncIterator[Pressure]):
    """Iterates over readings, each when the kernel told of it; the next supervisor is asked when one dies."""

    def __init__(self, reach: Reach, wish: PressureOf) -> None:
        self._reach = reach
        self._wish = wish
        self._link: Connection | None = None
        self._answer: AsyncAnswer | None = None

    async def begin(self) -> None:
        """Done once the kernel watches; the first reading asks for it otherwise. Conflict, BadRequest, NoSuchObject."""
        if self._answer is None:
            self._link = await self._reach.another()
            self._answer = await self._link.call(self._wish)
            _, fds = await anext(self._answer)
            close_all(fds)

    async def __anext__(self) -> Pressure:
        """The next reading. Unavailable after five dead supervisors in a row."""
        for attempt in range(ATTEMPTS):
            try:
                await self.begin()
                assert self._answer is not None
                value, fds = await anext(self._answer)
            except Unavailable:
                self.close()
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            except BaseException:
                self.close()
                raise
            close_all(fds)
            return typed(value, Pressure)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Have it watched no longer. Safe to repeat."""
        if self._link is not None:
            self._link.close()
        self._link = self._answer = None

    async def aclose(self) -> None:
        """As close()."""
        self.close()
        await anyio.lowlevel.checkpoint()
