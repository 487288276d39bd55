"""What becomes of a running container: told by its shim, found on disk, or concluded from the shim's death."""

from __future__ import annotations

import contextlib
import time

import msgspec
import structlog
import trio

from asyncrt.engine import hooking, pause
from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, Unavailable
from asyncrt.model.container import Container, Exit
from asyncrt.supervisor import line as lines
from asyncrt.supervisor.line import Line
from asyncrt.supervisor.monitor import News
from asyncrt.supervisor.task import Task
from shimd.wire.codec import WireError, unpack_record
from shimd.wire.messages import VERSION, AtHooks, ExitRecord, Standing, Started

KILLED = 128 + 9
_log = structlog.get_logger("asyncrt.engine.ending")


class UnknownVersion(Unavailable):
    """A living shim of another version: to take it for dead would kill its container."""


class Keeper:
    """Told by a task, at once and in order.

    `asked_ns` is when its start was asked for (CLOCK_MONOTONIC, -1 unknown). A keeper of a start holds one of the
    engine's places for starts and gives it back when the start is over, however it went.
    """

    def __init__(self, engine: Engine, asked_ns: int = -1, place: str = "") -> None:
        self.engine = engine
        self.asked_ns = asked_ns
        self._place = place

    def give_place_back(self) -> None:
        """Safe to repeat."""
        if self._place:
            self.engine.starting.release_on_behalf_of(self._place)
            self._place = ""

    def task_started(self, task: Task, started: Started) -> None:
        self.give_place_back()
        container = self.engine.table.get(task.id)
        if container is not None:
            due = bool(self.engine.hooks.due(task.id, "poststop"))
            running_now = running(container, started, self.asked_ns)
            fresh = msgspec.structs.replace(running_now, told={}, poststop_due=due)
            self.engine.record(fresh, "start", pid=started.pid)
            watch(self.engine, fresh)

    def task_at_hooks(self, task: Task, asked: AtHooks, answer: int) -> None:
        self.engine.nursery.start_soon(hooking.at_hooks, self.engine, task.id, asked, answer)

    def task_failed(self, task: Task) -> None:
        self.give_place_back()
        self.engine.tasks.pop(task.id, None)
        container = self.engine.table.get(task.id)
        if container is not None and self.engine.hooks.due(task.id, "poststop"):  # runtime.md, "Lifecycle"
            self.engine.nursery.start_soon(hooking.poststop, self.engine, container)

    def task_ended(self, task: Task, record: ExitRecord) -> None:
        if self.engine.tasks.pop(task.id, None) is not None:
            self.engine.leaving[task.id] = task
        ended(self.engine, task.id, record)

    def task_gone(self, task: Task) -> None:
        if self.engine.leaving.get(task.id) is task:
            del self.engine.leaving[task.id]

    async def task_lost(self, task: Task) -> None:
        """The line is gone. Perhaps only the line: whoever can connect finds the shim."""
        self.give_place_back()
        engine = self.engine
        with contextlib.suppress(OSError, WireError, AsyncrtError):
            await adopt(engine, task.id, await lines.connect(engine.shim_socket(task.id)))
            return
        engine.tasks.pop(task.id, None)
        if not task.started.done:
            await dead_shim_cleared(engine, task.id)
            return
        record = await record_of_dead(engine, task.id)
        ended(engine, task.id, record)
        task.ended.set(record)


def running(container: Container, started: Started | Standing, asked_ns: int) -> Container:
    """The record of a container that was heard to run. The timeline begins with the request."""
    timeline = [(phase, time_ns) for phase, time_ns in started.timeline]
    if asked_ns > 0:
        timeline.insert(0, ("request", asked_ns))
    return msgspec.structs.replace(
        container,
        state="running",
        pid=started.pid,
        shim_pid=started.shim_pid,
        started_ns=started.started_ns,
        timeline=tuple(timeline),
        exit=None,
        error="",
    )


def watch(engine: Engine, container: Container) -> None:
    """Be told what its limits do, if it has any that the kernel tells of."""
    options = container.options
    quota = options.cpus > 0 or options.limits.cpu_quota > 0
    if options.memory > 0 or options.pids_limit > 0 or quota or options.limits.unified:
        silent = quota or (options.pids_limit > 0 and engine.cgroups.hierarchies[0].version == 1)
        engine.monitor.watch(container.id, engine.cgroups.of(container.id), container.told, silent)


def ended(engine: Engine, id: str, record: ExitRecord) -> None:
    """A container ended: remember it, tell it, and remove the container if that was the wish."""
    engine.monitor.forget(id)
    engine.cgroups.forget_accounts(id)
    container = engine.table.get(id)
    if container is None:
        return
    more = record.oom_kills - container.told.get("oom", 0)
    if more > 0:  # its last moment, or a limit above it, which is not watched
        engine.limit_did(id, News("oom", more, record.oom_kills, record.oom_cgroup))
        container = engine.table.get(id) or container
    if record.failed:
        engine.record(msgspec.structs.replace(container, state="created", error=record.failed), "start_failed")
        return
    exit = Exit(**{name: getattr(record, name) for name in Exit.__struct_fields__})
    stopped = msgspec.structs.replace(container, state="stopped", pid=0, shim_pid=0, exit=exit)
    engine.record(stopped, "die", code=exit.code, signal=exit.signal, lost=exit.lost)
    if stopped.poststop_due:
        engine.nursery.start_soon(after_stop, engine, stopped)
    elif container.options.auto_remove:
        engine.nursery.start_soon(auto_remove, engine, id)


async def after_stop(engine: Engine, container: Container) -> None:
    """Its poststop hooks, then its removal if that was the wish."""
    await hooking.poststop(engine, container)
    if container.options.auto_remove:
        await auto_remove(engine, container.id)


async def auto_remove(engine: Engine, id: str) -> None:
    """Remove an ended container because that was asked for when it was created; trouble goes to the log."""
    from asyncrt.engine.remove import remove  # the two call each other: a removal ends what runs

    task = engine.leaving.get(id)
    if task is not None:
        await task.gone.wait()  # its shim stays as long as somebody reads: a removal would take the rest from them
    try:
        await remove(engine, id, force=True)
    except AsyncrtError as error:
        if not isinstance(error, NoSuchObject):
            _log.error("remove after exit", container=id, error=str(error))


async def adopt(engine: Engine, id: str, line: Line) -> Standing:
    """Take over a living shim by a line to its path socket. AsyncrtError or OSError if it is none after all."""
    task = Task(id, line, Keeper(engine))
    engine.nursery.start_soon(task.run)
    standing = await task.query()
    if standing.version != VERSION:
        raise UnknownVersion("adopt", id[:12], f"its shim speaks version {standing.version}, we speak {VERSION}")
    container = engine.table.get(id)
    if standing.id != id or container is None:
        line.close()
        raise NoSuchObject("adopt", id[:12], f"the shim on its socket holds {standing.id[:12]}")
    engine.tasks[id] = task
    task.adopt_execs(standing.execs)
    if standing.started_ns:
        asked_ns = container.timeline[0][1] if container.timeline else -1
        engine.record(running(container, standing, asked_ns), "adopt", pid=standing.pid)
        if standing.record is None:
            watch(engine, container)
            pause.after_restart(engine, container)
        task.started.set(Started(standing.pid, standing.shim_pid, standing.started_ns, standing.timeline))
    if standing.record is not None:
        task.keeper.task_ended(task, standing.record)
        task.ended.set(standing.record)
    return standing


async def record_of_dead(engine: Engine, id: str) -> ExitRecord:
    """How a container ended whose shim is gone: what the shim wrote, or else that it was lost."""
    written = await trio.to_thread.run_sync(read_record, engine, id)
    await dead_shim_cleared(engine, id)
    if written is not None:
        return written
    reason = "the shim was killed, and the container with it"
    container = engine.table.get(id)
    started_ns = container.started_ns if container is not None else 0
    return ExitRecord(KILLED, 9, False, started_ns, time.time_ns(), lost=reason)


def read_record(engine: Engine, id: str) -> ExitRecord | None:
    """The exit record on disk; None if there is none, or only the beginning of one."""
    try:
        return unpack_record((engine.directories.of(id) / "exit").read_bytes())
    except (OSError, WireError):
        return None


async def dead_shim_cleared(engine: Engine, id: str) -> None:
    """Remove what a dead shim left: its socket, its container's processes and cgroups."""
    left = await trio.to_thread.run_sync(engine.cgroups.destroy, id)
    engine.shim_socket(id).unlink(missing_ok=True)
    if left:
        _log.error("left behind by a dead shim", container=id, left=left)


async def wait(engine: Engine, id: str) -> Container:
    """The record of a container once it ended. NoSuchObject if it is removed without having run."""
    while True:
        container = engine.table.get(id) or engine.departed.get(id)
        if container is None:
            raise NoSuchObject("wait for", id[:12], "there is no such container")
        if container.exit is not None and container.state == "stopped":
            return container
        task = engine.tasks.get(id)
        if task is None:
            if id in engine.departed:
                raise Conflict("wait for", container.name, "it was removed before it ran")
            await engine.bus.something()
        else:
            await task.over.wait()
