"""A request each: what it asks of the engine, and what it answers (the table in model/protocol.py)."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import trio

from asyncrt import __version__
from asyncrt.api import image_handlers, moving_handlers, tree_handlers
from asyncrt.engine import attach, ending, execute, pause, remove, statistics, stop, update
from asyncrt.engine.create import create, recipe_for
from asyncrt.engine.engine import Engine
from asyncrt.engine.start import Streams, start
from asyncrt.errors import AsyncrtError, BadRequest, Conflict, Unavailable
from asyncrt.model import protocol as p
from asyncrt.model.container import Container, Exit
from asyncrt.model.image_requests import Images, Load, Pull, Push, RemoveImage, Save, Tag
from asyncrt.model.moving_requests import Copy, Login, Logout, Unpack
from asyncrt.model.options import Options
from asyncrt.model.tree_requests import (
    Commit,
    CopyFrom,
    CopyTo,
    Diff,
    Export,
    Import,
    InspectImages,
    PathStat,
    PruneImages,
)
from asyncrt.supervisor.pressure import trigger
from asyncrt.supervisor.task import Wish
from shimd.wire.channel import close_all
from shimd.wire.messages import ExitRecord

LIST_CHUNK = 256  # containers per frame
WORKERS = 64  # deeds under way at once for one request; starts have their own, narrower limit
LOGS = ("index", "stdout", "stderr", "marks")  # the index first: a stream's file is there before it is named there


class Send(Protocol):
    """Send one Item of this request's answer."""

    async def __call__(self, value: Any, fds: Sequence[int] = ()) -> None: ...


async def serve(engine: Engine, request: p.AnyRequest, fds: list[int], item: Send) -> Any:
    """The End value of a request; AsyncrtError becomes its Failure. The fds stay the caller's."""
    match request:
        case p.Version():
            return {"version": __version__, "protocol": p.VERSION, "python": platform.python_version()}
        case p.Info():
            return info(engine)
        case p.Create():
            async with engine.images.using():
                recipe = await recipe_for(engine, request.options)
                containers = await create(engine, request.options, request.count, recipe)
            for container in containers:
                await item(progress("created", container))
            return [container.id for container in containers]
        case p.Run():
            return await run(engine, request, fds, item)
        case p.Start():
            return await start_all(engine, request, fds, item)
        case p.List():
            found = [one for one in engine.table if request.all or one.state in ("running", "paused")]
            for first in range(0, len(found), LIST_CHUNK):
                await item(found[first : first + LIST_CHUNK])
            return None
        case p.Inspect():
            return [engine.table.find(ref, "inspect") for ref in request.refs]
        case p.Wait():
            return await wait(engine, request, item)
        case p.Kill():
            signal, all = request.signal, request.all
            return await each(engine, request.refs, "kill", item, lambda one: stop.kill(engine, one, signal, all))
        case p.Stop():
            return await each(engine, request.refs, "stop", item, lambda one: stop.stop(engine, one, request.timeout))
        case p.Remove():
            refs = [one.id for one in engine.table] if request.all else request.refs
            return await each(engine, refs, "remove", item, lambda one: _removal(engine, one, request))
        case p.Pause():
            return await each(engine, request.refs, "pause", item, lambda one: pause.pause(engine, one))
        case p.Unpause():
            return await each(engine, request.refs, "unpause", item, lambda one: pause.unpause(engine, one))
        case p.Update():
            return await each(engine, request.refs, "update", item, lambda one: update.update(engine, one, request))
        case p.StatsOf():
            async for samples in statistics.follow(engine, request.refs, request.interval, request.stream):
                await item(samples)
            return None
        case p.Top():
            return await statistics.top(engine, engine.table.find(request.ref, "list processes of"))
        case p.PressureOf():
            limit = trigger(request.resource, request.some_us, request.full_us, request.window_us)
            return await statistics.pressure(engine, engine.table.find(request.ref, "watch"), limit, item)
        case p.Logs():
            return await logs(engine, request, item)
        case p.Attach():
            container = engine.table.find(request.ref, "attach to")
            wish = Wish(request.stdin, request.stdout, request.stderr, request.stdin_once)
            return await attach.attach(engine, container, wish, fds)
        case p.CloseStdin():
            await stop.task_of(engine, engine.table.find(request.ref, "close stdin of"), "close stdin of").close_stdin()
            return None
        case p.Resize():
            task = stop.task_of(engine, engine.table.find(request.ref, "resize"), "resize")
            await task.resize(request.exec, request.rows, request.columns)
            return None
        case p.KillExec():
            task = stop.task_of(engine, engine.table.find(request.ref, "kill exec in"), "kill exec in")
            await task.kill(request.signal, request.exec)
            return None
        case p.LeaveExec():
            if len(fds) != 1:
                raise BadRequest("leave exec in", request.ref, "one fd is needed", "the master of its terminal")
            task = stop.task_of(engine, engine.table.find(request.ref, "leave exec in"), "leave exec in")
            await task.keep_terminal(request.exec, fds)
            return None
        case p.Exec():
            return await exec_(engine, request, fds, item)
        case p.WaitExec():
            container = engine.table.find(request.ref, "wait for exec in")
            return exit_of(await stop.task_of(engine, container, "wait for exec in").wait_exec(request.exec))
        case p.Events():
            async for event in engine.bus.follow(engine.writer, request.after, request.follow):
                await item(event)
            return None
        case Pull() | Push() | Images() | Tag() | RemoveImage() | Load() | Save():
            return await image_handlers.serve(engine, request, fds, item)
        case Copy() | Unpack() | Login() | Logout():
            return await moving_handlers.serve(engine, request, item)
        case (
            Diff()
            | Export()
            | Commit()
            | Import()
            | PathStat()
            | CopyFrom()
            | CopyTo()
            | InspectImages()
            | PruneImages()
        ):
            return await tree_handlers.serve(engine, request, fds, item)
        case p.Shutdown():
            raise BadRequest("shut down", "supervisor", "the server answers that itself")


def info(engine: Engine) -> dict[str, Any]:
    """What this supervisor is and holds."""
    states: dict[str, int] = {}
    for container in engine.table:
        states[container.state] = states.get(container.state, 0) + 1
    hierarchies = engine.cgroups.hierarchies
    return {
        "supervisor_pid": os.getpid(),
        "zygote_pid": engine.zygote.pid,
        "version": __version__,
        "root": str(engine.root),
        "state": str(engine.state),
        "containers": len(engine.table),
        "states": states,
        "cgroup_version": hierarchies[0].version,
        "cgroup_parent": engine.cgroups.parent,
        "controllers": sorted({name for tree in hierarchies for name in tree.controllers}),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "last_event": engine.writer.last_seq,
    }


def progress(step: str, container: Container, error: AsyncrtError | None = None) -> p.Progress:
    return p.Progress(
        step,
        container.id,
        container.name,
        container.index,
        container.pid,
        container.timeline if step == "started" else (),
        container.exit if step == "ended" else None,
        error.to_dict() if error is not None else None,
    )


async def run(engine: Engine, request: p.Run, fds: list[int], item: Send) -> list[str]:
    """Create and start. With `attach` it ends when the container did; one that fails to start is removed again."""
    asked_ns = time.monotonic_ns()
    streams = None
    if request.attach:
        if request.count != 1:
            raise BadRequest("run", "containers", "attaching takes one container")
        streams = streams_of(request.options, request.stdin_once, 0, fds)
    async with engine.images.using():
        recipe = await recipe_for(engine, request.options)
        containers = await create(engine, request.options, request.count, recipe)
    started: set[str] = set()

    async def one(container: Container) -> None:
        try:
            running = await start(engine, container, asked_ns, recipe, streams)
        except AsyncrtError as error:
            await _discard(engine, container.id)
            if request.count == 1:
                raise
            await item(progress("failed", container, error))
            return
        started.add(container.id)
        await item(progress("started", running))
        if request.attach:
            await item(progress("ended", await ending.wait(engine, container.id)))

    try:
        for container in containers:  # so that who loses us in the middle knows whom to ask a successor for
            await item(progress("created", container))
        await _side_by_side(one, containers)
    except BaseException:
        for container in containers:  # the client left, or the one start failed: what never ran is taken back
            if container.id not in started and container.id not in engine.tasks:
                engine.nursery.start_soon(_discard, engine, container.id)
        raise
    return [container.id for container in containers]


def streams_of(options: Options, once: bool, offset: int, fds: list[int]) -> Streams:
    """What a start attaches: [stdin] stdout, and stderr where there is no terminal."""
    wanted = options.stdin + (1 if options.tty else 2)
    if len(fds) != wanted:
        raise BadRequest("attach to", "container", f"{wanted} fds are needed, {len(fds)} came", "see protocol.py")
    return Streams(Wish(options.stdin, offset, p.NOT_THIS if options.tty else offset, once), fds)


async def _removal(engine: Engine, container: Container, request: p.Remove) -> None:
    await remove.remove(engine, container.id, request.force)


async def _discard(engine: Engine, id: str) -> None:
    container = engine.table.get(id)
    if container is not None and container.started_ns == 0 and id not in engine.removing:
        with trio.CancelScope(shield=True), contextlib.suppress(Unavailable):
            await remove.remove(engine, id, force=True)


async def _side_by_side(deed: Callable[[Container], Awaitable[None]], containers: Sequence[Container]) -> None:
    """The deed on each, WORKERS at a time; one AsyncrtError of a single container comes out as itself."""
    if len(containers) == 1:
        await deed(containers[0])
        return
    rest = iter(containers)

    async def worker() -> None:
        for container in rest:
            await deed(container)

    async with trio.open_nursery() as nursery:
        for _ in range(min(WORKERS, len(containers))):
            nursery.start_soon(worker)


async def start_all(engine: Engine, request: p.Start, fds: list[int], item: Send) -> list[str]:
    """Start what is there; a single one's failure is the request's."""
    asked_ns = time.monotonic_ns()
    found = [engine.table.find(ref, "start") for ref in request.refs]
    streams = None
    if request.attach:
        if len(found) != 1:
            raise BadRequest("start", "containers", "attaching takes one container")
        streams = streams_of(found[0].options, request.stdin_once, p.FROM_NOW, fds)

    async def one(container: Container) -> None:
        try:
            await item(progress("started", await start(engine, container, asked_ns, streams=streams)))
            if streams is not None:
                await item(progress("ended", await ending.wait(engine, container.id)))
        except AsyncrtError as error:
            if len(found) == 1:
                raise
            await item(progress("failed", container, error))

    await _side_by_side(one, found)
    return [container.id for container in found]


async def wait(engine: Engine, request: p.Wait, item: Send) -> list[p.Progress]:
    """As they end, and once more in the order asked. A container that was removed lately is remembered."""
    ids = []
    for ref in request.refs:
        ids.append(ref if ref in engine.departed else engine.table.find(ref, "wait for").id)
    answers: dict[str, p.Progress] = {}

    async def one(id: str) -> None:
        try:
            answers[id] = progress("ended", await ending.wait(engine, id))
        except AsyncrtError as error:
            if len(ids) == 1:
                raise
            answers[id] = p.Progress("failed", id, id[:12], error=error.to_dict())
        await item(answers[id])

    if len(ids) == 1:
        await one(ids[0])
    else:
        async with trio.open_nursery() as nursery:
            for id in dict.fromkeys(ids):
                nursery.start_soon(one, id)
    return [answers[id] for id in ids]


async def each(
    engine: Engine,
    refs: Sequence[str],
    deed: str,
    item: Send,
    act: Callable[[Container], Awaitable[None]],
) -> None:
    """An Outcome per ref: one that fails does not keep the others."""

    async def one(ref: str) -> None:
        try:
            container = engine.table.find(ref, deed)
            await act(container)
            await item(p.Outcome(ref, container.id))
        except AsyncrtError as error:
            await item(p.Outcome(ref, "", error.to_dict()))

    rest = iter(refs)

    async def worker() -> None:
        for ref in rest:
            await one(ref)

    async with trio.open_nursery() as nursery:
        for _ in range(min(WORKERS, len(refs))):
            nursery.start_soon(worker)


async def logs(engine: Engine, request: p.Logs, item: Send) -> None:
    """The files themselves, read-only: what is read from them costs the supervisor nothing."""
    container = engine.table.find(request.ref, "read logs of")
    if container.options.log_format == "none":
        raise Conflict("read logs of", container.name, "it keeps none (its log format is none)")
    directory = engine.directories.of(container.id)
    names: list[str] = []
    fds: list[int] = []
    try:
        for name in LOGS:
            try:
                fds.append(os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                continue  # it has said nothing there
            names.append(name)
        await item(names, fds)
    finally:
        for fd in fds:
            os.close(fd)


async def exec_(engine: Engine, request: p.Exec, fds: list[int], item: Send) -> Exit:
    """Item once it runs, End with its exit record."""
    wanted, hint = (0, "its terminal's master comes back") if request.options.tty else (3, "stdin, stdout, stderr")
    if len(fds) != wanted:
        raise BadRequest("exec in", request.ref, f"{wanted} fds are needed, {len(fds)} came", hint)
    container = engine.table.find(request.ref, "exec in")
    execution = await execute.execute(engine, container, request.options, fds, request.id)
    for fd in fds:  # the process has them; as long as they were open here its reader would see no end
        os.close(fd)
    fds.clear()
    try:
        await item({"exec": execution.id, "pid": await execution.started.wait()}, execution.master)
    finally:
        close_all(execution.master)
    return exit_of(await execution.ended.wait())


def exit_of(record: ExitRecord) -> Exit:
    return Exit(**{name: getattr(record, name) for name in Exit.__struct_fields__})
