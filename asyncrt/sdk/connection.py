"""A connection to the supervisor in an event loop, under asyncio as under trio; and the way to the next supervisor.

    reach = Reach(places, start=True)
    answer = await reach.call(Wait((id,)))     connects, and starts a supervisor where none runs
    async for value, fds in answer: ...        Items as they come
    await answer.result()                      the End's value, or the Failure

No job reads in the background: of those who wait for an answer one reads for all, and hands the reading on when it has
what it wanted. So there is no nursery whose errors would come out of the caller's block, and nothing that outlives it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.to_thread

from asyncrt.errors import Unavailable
from asyncrt.model.protocol import AnyRequest
from asyncrt.sdk import door
from asyncrt.sdk.answer import Mail, close_all
from asyncrt.sdk.exchange import Exchange
from asyncrt.sdk.places import Places

SEND_SECONDS = 10.0  # for the rest of a frame that was begun: half a frame would cost everybody the connection


class AsyncAnswer(Mail, AsyncIterator[tuple[Any, list[int]]]):
    """Iterates over (value, fds) of each Item; `result()` gives the End's value. One job at a time waits for it."""

    def __init__(self, number: int, pull: Callable[[Mail], Awaitable[None]]) -> None:
        super().__init__(number)
        self._pull = pull

    async def __anext__(self) -> tuple[Any, list[int]]:
        """The next Item. Raises the Failure once the Items before it were taken."""
        if not self.stirred:
            await self._pull(self)
        if self._items:
            return self._items.popleft()
        self.verdict()
        raise StopAsyncIteration

    async def result(self) -> Any:
        """The End's value; Items not taken are dropped. Raises the Failure."""
        async for _, fds in self:
            close_all(fds)
        return self._value


class Connection:
    """One connected socket. `lost` is set once it is gone; every call that waits then ends as Unavailable."""

    def __init__(self, link: socket.socket, path: str) -> None:
        link.setblocking(False)
        self._exchange = Exchange(link, path)
        self._sending = anyio.Lock()
        self._reading = False
        self._sleepers: dict[anyio.Event, None] = {}

    @property
    def lost(self) -> Unavailable | None:
        return self._exchange.lost

    def close(self, cause: str = "the connection was closed") -> None:
        """Calls that wait end as Unavailable; what was done is not undone."""
        if self._reading and self._exchange.lost is None:
            anyio.notify_closing(self._exchange.link)
        self._exchange.lose(cause)

    async def call(self, request: AnyRequest, fds: Sequence[int] = ()) -> AsyncAnswer:
        """Send a request. The fds stay the caller's, who may close them once this returns.

        Raises Unavailable; `unsent` says of its reason whether the supervisor cannot have heard the request.
        """
        async with self._sending:
            answer, data = self._exchange.open(request, lambda number: AsyncAnswer(number, self.pull), len(fds))
            begun = False
            try:
                while data:
                    try:
                        data = self._exchange.send(data, () if begun else fds)
                    except BlockingIOError:
                        if not begun:
                            await anyio.wait_writable(self._exchange.link)
                            continue
                        with anyio.fail_after(SEND_SECONDS, shield=True):
                            await anyio.wait_writable(self._exchange.link)
                    begun = True
            except (OSError, anyio.ClosedResourceError) as error:
                self.close("supervisor went away")
                raise Unsent.of(self._exchange.lost, begun) from error
            except BaseException:
                if begun:
                    self.close("interrupted in the middle of a request")
                answer.close()
                raise
        return answer

    async def ask(self, request: AnyRequest, fds: Sequence[int] = ()) -> Any:
        """Send a request and wait for the End's value."""
        return await (await self.call(request, fds)).result()

    async def pull(self, *answers: Mail) -> None:
        """Until one of these has something to take, or is done."""
        try:
            while not any(answer.stirred for answer in answers):
                if self._reading:
                    await self._be_woken(answers)
                else:
                    await self._read()
        finally:
            if not self._reading and self._sleepers:
                next(iter(self._sleepers)).set()  # somebody has to read for those who still wait

    async def _be_woken(self, answers: Sequence[Mail]) -> None:
        """By what comes for one of these, or because nobody reads any more."""
        event = anyio.Event()
        self._sleepers[event] = None
        for answer in answers:
            answer.on_stir = event.set
        try:
            await event.wait()
        finally:
            del self._sleepers[event]
            for answer in answers:
                answer.on_stir = None

    async def _read(self) -> None:
        self._reading = True
        try:
            await anyio.wait_readable(self._exchange.link)
            with contextlib.suppress(BlockingIOError):
                self._exchange.take()
        except (OSError, ValueError, anyio.ClosedResourceError):
            self._exchange.lose("the connection was closed")
        finally:
            self._reading = False


class Unsent(Unavailable):
    """Unavailable, and the supervisor cannot have heard the request: it may be put to the next one."""

    @staticmethod
    def of(lost: Unavailable | None, begun: bool) -> Unavailable:
        assert lost is not None
        kind = Unavailable if begun else Unsent
        return kind(lost.deed, lost.subject, lost.cause, lost.hint)


class Reach:
    """Whichever supervisor there is: connects when asked, and again once a connection was lost.

    `start`: where none listens one is started. Jobs that ask at the same moment share one connection.
    """

    def __init__(self, places: Places, start: bool = True) -> None:
        self.places = places
        self._start = start
        self._link: Connection | None = None
        self._connecting = anyio.Lock()
        self._closed = False
        self._others: weakref.WeakSet[Connection] = weakref.WeakSet()

    async def connection(self) -> Connection:
        """One that was not lost yet. Unavailable where nobody listens and none could be started."""
        if self._link is not None and self._link.lost is None:
            return self._link
        async with self._connecting:
            if self._closed:
                raise Unavailable("ask", f"the supervisor at {self.places.socket}", "the runtime was closed")
            if self._link is None or self._link.lost is not None:
                self._link = Connection(await _dial(self.places, self._start), self.places.socket)
            return self._link

    async def another(self) -> Connection:
        """A connection of the caller's own, who closes it; close() does it at the latest."""
        link = Connection(await _dial(self.places, self._start), self.places.socket)
        self._others.add(link)
        return link

    async def call(self, request: AnyRequest, fds: Sequence[int] = ()) -> tuple[AsyncAnswer, Connection]:
        """Send a request; where a connection turns out dead before it was sent, on the next one."""
        link = await self.connection()
        try:
            return await link.call(request, fds), link
        except Unsent:
            link = await self.connection()
            return await link.call(request, fds), link

    async def ask(self, request: AnyRequest, fds: Sequence[int] = ()) -> Any:
        """The End's value of a request."""
        answer, _ = await self.call(request, fds)
        return await answer.result()

    def close(self) -> None:
        """Calls that wait end as Unavailable."""
        self._closed = True
        for link in (self._link, *self._others):
            if link is not None:
                link.close()


async def _dial(places: Places, start: bool) -> socket.socket:
    """In a thread, as a supervisor may have to come up first. Who is cancelled leaves no socket behind."""
    lock, made, left = threading.Lock(), list[socket.socket](), False

    def work() -> socket.socket:
        link = door.open_door(places) if start else door.dial(places.socket)
        with lock:
            made.append(link)
            if left:
                link.close()
        return link

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        with lock:
            left = True
            for link in made:
                link.close()
        raise
