"""One container's line to its shim: what it says becomes promises, what it is asked gets an answer.

A line that ends before the shim said Ended says nothing about the container: the keeper finds out (engine/ending.py).
Requests that wait then fail with Conflict.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import structlog
import trio

from asyncrt.errors import Conflict, StartFailed
from asyncrt.supervisor.line import Line
from asyncrt.supervisor.promise import Promise
from shimd.errors import Trouble
from shimd.wire.channel import close_all
from shimd.wire.codec import WireError
from shimd.wire.messages import (
    VERSION,
    AtHooks,
    Attach,
    Attached,
    CloseStdin,
    Done,
    Ended,
    Exec,
    ExecEnded,
    ExecFailed,
    ExecStarted,
    ExitRecord,
    Failed,
    KeepTerminal,
    Kill,
    Message,
    Query,
    Refusal,
    Release,
    Resize,
    Standing,
    Started,
    Update,
)

EXECS_REMEMBERED = 256  # a container; as many as its shim tells again
_log = structlog.get_logger("asyncrt.supervisor.task")


class LineEnded(Conflict):
    """Nobody answered, and nobody will on this line: the container ended, or its shim has another line by now."""


class Wish(NamedTuple):
    """What an attach wants, as wire.Attach has it."""

    stdin: bool
    stdout: int
    stderr: int
    once: bool = False


class ExecTask:
    """One exec of a container. `master` is its terminal's, until somebody takes it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.master: list[int] = []
        self.started: Promise[int] = Promise()
        self.ended: Promise[ExitRecord] = Promise()


class Keeper(Protocol):
    """Who is told what becomes of a task, at once and in order."""

    def task_started(self, task: Task, started: Started) -> None: ...
    def task_failed(self, task: Task) -> None: ...
    def task_at_hooks(self, task: Task, asked: AtHooks, answer: int) -> None:
        """`answer` is the keeper's from here on."""
        ...

    def task_ended(self, task: Task, record: ExitRecord) -> None: ...
    def task_gone(self, task: Task) -> None: ...

    async def task_lost(self, task: Task) -> None:
        """The line ended, and nobody said how the container is."""
        ...


class Task:
    """run() reads the line to its end, keeps the promises and then sets `gone`."""

    def __init__(self, id: str, line: Line, keeper: Keeper) -> None:
        self.id = id
        self.line = line
        self.keeper = keeper
        self.failed = False
        self.started: Promise[Started] = Promise()
        self.standing: Promise[Standing] = Promise()
        self.ended: Promise[ExitRecord] = Promise()
        self.over = trio.Event()
        """It ended, or this line of its did: whoever waits looks again."""
        self.gone = trio.Event()
        """The line has ended, and with it the shim, unless another line was made."""
        self.execs: dict[str, ExecTask] = {}
        self.exec_records: dict[str, ExitRecord] = {}
        """How the last execs ended."""
        self._replies: dict[int, Promise[Attached | None]] = {}
        self._seq = itertools.count(1)

    async def run(self) -> None:
        """Read to the end."""
        try:
            while (received := await self.line.receive()) is not None:
                message, fds = received
                self._heard(message, fds)
                close_all(fds)
            if not self.ended.done and not self.failed:
                await self.keeper.task_lost(self)
        except WireError as error:
            _log.error("the shim speaks another language", container=self.id, error=str(error))
        finally:
            self.line.close()
            self._abandon()

    def _heard(self, message: Message, fds: list[int]) -> None:
        """What is taken out of `fds` is not closed."""
        match message:
            case Started():
                self.keeper.task_started(self, message)
                self.started.set(message)
            case AtHooks() if fds:
                self.keeper.task_at_hooks(self, message, fds.pop(0))
            case Failed():
                self.failed = True
                self.keeper.task_failed(self)
                self.started.fail(start_failed(message.trouble, message.left))
            case Ended():
                if message.left:
                    _log.error("left behind", container=self.id, left=message.left)
                self.keeper.task_ended(self, message.record)
                self.ended.set(message.record)
                self.over.set()
            case Standing():
                self.standing.set(message)
            case Done():
                self._replies.pop(message.seq, Promise()).set(None)
            case Attached():
                self._replies.pop(message.seq, Promise()).set(message)
            case Refusal():
                trouble = message.trouble
                error = Conflict(trouble.deed, trouble.subject, trouble.cause, trouble.hint, trouble.code)
                self._replies.pop(message.seq, Promise()).fail(error)
            # An exec that is not known: a predecessor's, or one whose client left before it had begun.
            case ExecStarted():
                if (execution := self.execs.get(message.exec)) is not None:
                    execution.master, fds[:] = fds[:], []
                    execution.started.set(message.pid)
            case ExecFailed():
                if (execution := self.execs.pop(message.exec, None)) is not None:
                    execution.started.fail(start_failed(message.trouble, []))
            case ExecEnded():
                self._exec_ended(message.exec, message.record)
            case _:
                _log.warning("unexpected message", container=self.id, message=type(message).__name__)

    def _exec_ended(self, id: str, record: ExitRecord) -> None:
        self.exec_records[id] = record
        if len(self.exec_records) > EXECS_REMEMBERED:
            del self.exec_records[next(iter(self.exec_records))]
        if (execution := self.execs.pop(id, None)) is not None:
            execution.ended.set(record)

    def _exec_refused(self, execution: ExecTask, error: Exception) -> None:
        self.execs.pop(execution.id, None)
        execution.started.fail(error)

    def _abandon(self) -> None:
        """Nobody will answer any more."""
        ended = LineEnded("ask", self.id[:12], "the container ended")
        for reply in self._replies.values():
            reply.fail(ended)
        for execution in self.execs.values():
            execution.started.fail(ended)
            execution.ended.fail(ended)
        self.standing.fail(ended)
        self.started.fail(StartFailed("start", self.id[:12], "its shim died"))
        self.keeper.task_gone(self)
        self.over.set()
        self.gone.set()

    async def _send(self, message: Message, seq: int, fds: Sequence[int] = ()) -> Promise[Attached | None]:
        reply = self._replies[seq] = Promise()
        try:
            await self.line.send(message, fds)
        except (OSError, trio.ClosedResourceError) as error:
            self._replies.pop(seq, None)
            raise LineEnded("ask", self.id[:12], "the container ended") from error
        return reply

    async def _ask(self, message: Message, seq: int, fds: Sequence[int] = ()) -> Attached | None:
        return await (await self._send(message, seq, fds)).wait()

    async def kill(self, signal: int, exec: str = "") -> None:
        """Conflict if it ended."""
        seq = next(self._seq)
        await self._ask(Kill(seq, signal, exec), seq)

    async def attach(self, wish: Wish, fds: Sequence[int]) -> Attached:
        """As wire.Attach; the caller keeps its fds. Conflict if its stdin is taken, LineEnded if it ended."""
        seq = next(self._seq)
        answer = await self._ask(Attach(seq, *wish), seq, fds)
        return answer or Attached(seq, wish.stdout, wish.stderr)

    async def attach_ahead(self, wish: Wish, fds: Sequence[int]) -> None:
        """Attach before it is spawned: the shim finds it in the socket when it takes over."""
        seq = next(self._seq)
        await self._send(Attach(seq, *wish), seq, fds)

    async def close_stdin(self) -> None:
        """As wire.CloseStdin. Conflict if it is closed or was never open."""
        seq = next(self._seq)
        await self._ask(CloseStdin(seq), seq)

    async def resize(self, exec: str, rows: int, columns: int) -> None:
        """As wire.Resize. Conflict if there is no terminal."""
        seq = next(self._seq)
        await self._ask(Resize(seq, exec, rows, columns), seq)

    async def keep_terminal(self, exec: str, fds: Sequence[int]) -> None:
        """As wire.KeepTerminal. Conflict if that exec has no terminal or does not run; the caller keeps its fd."""
        seq = next(self._seq)
        await self._ask(KeepTerminal(seq, exec), seq, fds)

    async def exec(self, id: str, process: dict[str, Any], fds: Sequence[int]) -> ExecTask:
        """Begin an exec; its promises tell the rest, a refusal, too. LineEnded if the container ended."""
        seq = next(self._seq)
        execution = self.execs[id] = ExecTask(id)
        try:
            reply = await self._send(Exec(seq, id, process), seq, fds)
        except BaseException:
            self.execs.pop(id, None)
            raise
        # Nobody waits for its Done, which says nothing that ExecStarted does not; a Refusal is the start's failure.
        reply.on_failure = lambda error: self._exec_refused(execution, error)
        return execution

    async def update(self, resources: dict[str, Any]) -> None:
        """Change limits (the spec's resources object). Conflict: the kernel refused one, and all are as before."""
        seq = next(self._seq)
        await self._ask(Update(seq, resources), seq)

    async def wait_exec(self, id: str) -> ExitRecord:
        """How an exec ended, once it has. Conflict if nobody remembers it, LineEnded if the container ended."""
        if (record := self.exec_records.get(id)) is not None:
            return record
        if (execution := self.execs.get(id)) is None:
            raise Conflict(
                "wait for exec", id[:12], "nobody remembers it", f"the last {EXECS_REMEMBERED} are remembered"
            )
        return await execution.ended.wait()

    def adopt_execs(self, ids: Sequence[str]) -> None:
        """Those that live: a predecessor began them."""
        for id in ids:
            self.execs.setdefault(id, ExecTask(id))

    async def query(self) -> Standing:
        """What the shim holds; Conflict if the line ends first."""
        await self.line.send(Query(VERSION))
        return await self.standing.wait()

    async def release(self) -> None:
        """The container is removed: the shim may go, whatever it holds. One that is gone already is fine."""
        with contextlib.suppress(OSError, trio.ClosedResourceError):
            await self.line.send(Release())


def start_failed(trouble: Trouble, left: list[str]) -> StartFailed:
    """The engine's error for a trouble of the ground floor."""
    cause = f"{trouble.cause}; left behind: {', '.join(left)}" if left else trouble.cause
    return StartFailed(trouble.deed, trouble.subject, cause, trouble.hint, trouble.code)
