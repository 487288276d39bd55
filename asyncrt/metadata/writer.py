"""The one writer: changes of many jobs, one transaction in one worker thread call (group commit).

    async with open_writer(root / "metadata.db") as writer:
        for container in writer.store.load_containers(): ...
        events = await writer.commit([PutContainer(container), AppendEvent("create", container.id)])
        writer.submit([PutContainer(running)])      # a hint: nobody waits for it

While a transaction runs, changes gather; the next one takes them all. So one caller alone has the latency of
one transaction, and 300 at once share a few. On trio's thread: names, numbers, answers. In the worker thread:
encoding and SQL.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import structlog
import trio

from asyncrt.errors import AsyncrtError
from asyncrt.metadata.changes import AppendEvent, Change, DropContainer, PutContainer
from asyncrt.metadata.names import Names
from asyncrt.metadata.shelves import Shelved, shelve
from asyncrt.metadata.store import Store
from asyncrt.model.container import Container
from asyncrt.model.events import Event

KEEP_EVENTS = 100_000
IDLE_SECONDS = 1.0  # of quiet before the housekeeping, whose fsyncs would delay commits
# Bytes of the WAL that ask for housekeeping: when it is quiet, and in any case.
SOON, AT_ONCE = 1 << 20, 32 << 20

# How long changes that nobody waits for gather: a transaction costs a change of threads and half a millisecond of the
# interpreter, which an exec or a start that runs meanwhile would pay.
GATHER_SECONDS = 0.003

Announce = Callable[[Sequence[Event]], None]
_log = structlog.get_logger("asyncrt.metadata")


class _Request:
    """The changes of one caller, and what became of them: events or an error."""

    __slots__ = ("changes", "error", "events", "ready", "waited")

    def __init__(self, changes: Sequence[Change], ready: trio.Event, waited: bool) -> None:
        self.changes = changes
        self.ready = ready
        self.waited = waited
        self.events: tuple[Event, ...] = ()
        self.error: AsyncrtError | None = None


class Writer:
    """The queue before the store. `run` serves it; open_writer() does all of it.

    `announce` gets the events of each transaction, in the order of their numbers and without a gap, before
    the callers wake; it must not raise. `trouble` is the last error of a change that nobody waited for.
    """

    def __init__(self, store: Store, announce: Announce | None = None, keep_events: int = KEEP_EVENTS) -> None:
        self.store = store
        self.trouble: AsyncrtError | None = None
        self._announce = announce
        self._keep_events = keep_events
        self._names = Names(store.load_names())
        self._last_seq = store.last_seq()
        self._waiting: list[_Request] = []
        self._ready = trio.Event()  # of the requests that wait; one for all of a batch
        self._wake = trio.Event()
        self._urgent = trio.Event()  # somebody waits for one of them, or it is the end
        self._closing = False
        self._wal_bytes = 0  # since the last housekeeping
        self._limiter = trio.CapacityLimiter(1)

    @property
    def last_seq(self) -> int:
        """The number of the newest committed event."""
        return self._last_seq

    async def commit(self, changes: Sequence[Change]) -> tuple[Event, ...]:
        """Do all of `changes` or none, and give back the events of its AppendEvents; it is in the WAL then.

        Conflict: a name is in use. StorageFailed: the disk or the file refuses. Cancelled: done all the same.
        """
        request = self._queue(changes, waited=True)
        await request.ready.wait()
        if request.error is not None:
            raise request.error
        return request.events

    def submit(self, changes: Sequence[Change]) -> None:
        """As commit(), without waiting; an error is logged and kept in `trouble`."""
        self._queue(changes, waited=False)

    async def events_after(self, seq: int, limit: int = 1000) -> list[Event]:
        """Store.events_after() while the writer runs."""
        return await trio.to_thread.run_sync(self.store.events_after, seq, limit, limiter=self._limiter)

    def close(self) -> None:
        """Let run() end once all that is queued is written; a later change is refused (RuntimeError)."""
        self._closing = True
        self._wake.set()
        self._urgent.set()

    def _queue(self, changes: Sequence[Change], waited: bool) -> _Request:
        if self._closing:
            raise RuntimeError("the writer of records is closed")
        request = _Request(_stamp(changes), self._ready, waited)
        self._waiting.append(request)
        self._wake.set()
        if waited:
            self._urgent.set()
        return request

    async def run(self) -> None:
        """Write what is queued until close(). Shielded: whoever is cancelled, what was queued is written."""
        with trio.CancelScope(shield=True):
            while True:
                quiet = IDLE_SECONDS if self._wal_bytes >= SOON else math.inf
                with trio.move_on_after(quiet) as silence:
                    await self._wake.wait()
                with trio.move_on_after(GATHER_SECONDS):
                    await self._urgent.wait()
                if self._waiting:
                    await self._write(self._take())
                elif self._closing:
                    return
                if silence.cancelled_caught or self._wal_bytes >= AT_ONCE:
                    await self._housekeep()

    def _take(self) -> list[_Request]:
        batch, self._waiting = self._waiting, []
        self._ready = trio.Event()
        if not self._closing:
            self._wake = trio.Event()
            self._urgent = trio.Event()
        return batch

    async def _write(self, batch: list[_Request]) -> None:
        if await self._transact(batch) is not None:
            # On a full disk folding the WAL away gives back its space.
            await self._housekeep()
            await self._salvage([request for request in batch if request.error is None])
        batch[0].ready.set()
        for request in batch:
            if request.error is not None and not request.waited:
                self.trouble = request.error
                _log.error("a change of the records is lost", error=str(request.error))

    async def _salvage(self, batch: list[_Request]) -> None:
        """Write what can be written of a batch that failed as a whole: by halves, down to those at fault.

        Not one by one: on a nearly full disk the small transactions would take more space than the batch.
        """
        error = await self._transact(batch)
        if error is None:
            return
        if len(batch) == 1:
            batch[0].error = error
            return
        middle = len(batch) // 2
        await self._salvage(batch[:middle])
        await self._salvage(batch[middle:])

    async def _transact(self, batch: list[_Request]) -> AsyncrtError | None:
        """One transaction of all in the batch whose names are free; its error, if nothing of it was done."""
        puts: dict[str, Container] = {}
        drops: dict[str, None] = {}
        events: list[Event] = []
        shelved: Shelved = {}
        for request in batch:
            try:
                self._fold(request, puts, drops, events, shelved)
            except AsyncrtError as error:
                request.error = error
        if not (puts or drops or events or shelved):
            return None
        try:
            self._wal_bytes = await trio.to_thread.run_sync(
                self.store.write, puts.values(), drops, events, shelved, limiter=self._limiter
            )
        except AsyncrtError as error:
            self._names.undo()
            return error
        self._names.settle()
        self._last_seq += len(events)
        if events and self._announce is not None:
            self._announce(events)
        return None

    def _fold(
        self,
        request: _Request,
        puts: dict[str, Container],
        drops: dict[str, None],
        events: list[Event],
        shelved: Shelved,
    ) -> None:
        """Add a request to what the transaction is to do: of several records of one id the last counts."""
        renamed = [
            change.container.id
            for change in request.changes
            if isinstance(change, PutContainer) and self._names.renames(change.container.id, change.container.name)
        ]
        self._names.claim(request.changes)
        # Drops are done before puts: a name that one container gave up is free before another takes it.
        drops.update(dict.fromkeys(renamed))
        first = len(events)
        for change in request.changes:
            if isinstance(change, PutContainer):
                puts[change.container.id] = change.container
            elif isinstance(change, DropContainer):
                puts.pop(change.id, None)
                drops[change.id] = None
            elif not isinstance(change, AppendEvent):
                shelve(change, shelved)
            else:
                seq = self._last_seq + len(events) + 1
                attributes = dict(change.attributes)
                events.append(Event(seq, change.time_ns, change.action, change.id, change.name, attributes))
        request.events = tuple(events[first:])

    async def _housekeep(self) -> None:
        self._wal_bytes = 0
        try:
            await trio.to_thread.run_sync(self.store.housekeep, self._keep_events, limiter=self._limiter)
        except AsyncrtError as error:
            self.trouble = error
            _log.error("records were not trimmed", error=str(error))


def _stamp(changes: Sequence[Change]) -> list[Change]:
    now = time.time_ns()
    return [
        change._replace(time_ns=now) if isinstance(change, AppendEvent) and not change.time_ns else change
        for change in changes
    ]


@contextlib.asynccontextmanager
async def open_writer(
    path: Path, announce: Announce | None = None, keep_events: int = KEEP_EVENTS
) -> AsyncIterator[Writer]:
    """Open the store at `path` and serve it; at the end all that is queued is written and the file closed.

    StorageFailed: see Store.open(). A nursery is inside: what the block raises comes in an ExceptionGroup.
    """
    store = await trio.to_thread.run_sync(Store.open, path)
    try:
        writer = Writer(store, announce, keep_events)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            try:
                yield writer
            finally:
                writer.close()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.close)
