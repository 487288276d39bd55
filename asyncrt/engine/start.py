"""Start: template, spawn, and the first word of the shim.

From the moment the spawn is sent the container belongs to its task, which tells the keeper (ending.py) what becomes
of it, whether or not anybody still waits here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import trio

from asyncrt.engine import hooking, image_volumes
from asyncrt.engine.create import Recipe, own_env, recipe_for
from asyncrt.engine.ending import Keeper
from asyncrt.engine.engine import Engine
from asyncrt.engine.remove import SIGKILL
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, StartFailed
from asyncrt.model.container import Container
from asyncrt.supervisor.cgroups import path_of
from asyncrt.supervisor.line import Line
from asyncrt.supervisor.task import Task, Wish
from shimd.wire.messages import Spawn

# Above the shim's own limit for a set-up: who waits here hears its reason first.
START_SECONDS = 75.0


class Streams(NamedTuple):
    """What a start attaches at once, so that no byte can be missed."""

    wish: Wish
    fds: Sequence[int]


async def start(
    engine: Engine, container: Container, asked_ns: int, recipe: Recipe | None = None, streams: Streams | None = None
) -> Container:
    """Start a created or ended container; its record once it runs.

    Conflict if it runs; StartFailed (code 125 to 127) with everything undone: the container is as before, with the
    reason in `error`.
    """
    if container.id in engine.beginning:
        raise Conflict("start", container.name, "it is being started already")
    if container.id in engine.tasks or container.state not in ("created", "stopped"):
        raise Conflict("start", container.name, f"it is {container.state}")
    engine.beginning.add(container.id)
    try:
        await engine.let_go(container.id)
        return await _start(engine, container, asked_ns, recipe, streams)
    finally:
        engine.beginning.discard(container.id)


async def _start(
    engine: Engine, container: Container, asked_ns: int, recipe: Recipe | None, streams: Streams | None
) -> Container:
    recipe = recipe or await recipe_for(engine, container.options)
    try:
        if container.options.cgroup_parent:
            await trio.to_thread.run_sync(engine.cgroups.make_parent, path_of(container.options.cgroup_parent))
        engine.hooks.keep(container.id, recipe.config.hooks)
        if any(recipe.config.hooks):
            await trio.to_thread.run_sync(hooking.prepare, engine, container, recipe.config)
        async with engine.zygote.plan(recipe.packed):
            task = await _begin(engine, container, asked_ns, recipe, streams)
            with trio.move_on_after(START_SECONDS + engine.hooks.patience(recipe.config.hooks)) as patience:
                started = await task.started.wait()
            if patience.cancelled_caught:
                task.line.close()
                raise StartFailed("start", container.name, f"no answer for {START_SECONDS:.0f} s")
            await _after_start(engine, container, task, started.pid)
    except AsyncrtError as error:
        known = engine.table.get(container.id)
        if known is not None:
            failed = msgspec.structs.replace(known, error=str(error), pid=0, shim_pid=0)
            engine.record(failed, "start_failed", code=error.code)
        raise
    return engine.table.get(container.id) or engine.departed.get(container.id) or container


async def _after_start(engine: Engine, container: Container, task: Task, pid: int) -> None:
    """The poststart hooks. One that fails ends the container, and the start has failed (runtime.md, "Lifecycle")."""
    if not engine.hooks.due(container.id, "poststart"):
        return
    with trio.CancelScope(shield=True):  # they have limits of their own
        try:
            await hooking.poststart(engine, container, pid)
        except StartFailed:
            with contextlib.suppress(AsyncrtError):  # it has ended meanwhile
                await task.kill(SIGKILL)
            await task.over.wait()
            raise


async def _begin(engine: Engine, container: Container, asked_ns: int, recipe: Recipe, streams: Streams | None) -> Task:
    """Send the spawn when there is room for one more; the limiter's token goes back when it runs or failed."""
    await engine.starting.acquire_on_behalf_of(container.id)
    keeper = Keeper(engine, asked_ns, container.id)
    if container.id not in engine.table or container.id in engine.removing:
        keeper.give_place_back()
        raise NoSuchObject("start", container.name, "it was removed")
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        keeper.give_place_back()
        raise StartFailed("start", container.name, (error.strerror or str(error)).lower()) from error
    task = Task(container.id, Line(ours), keeper)
    fds = [theirs.fileno()]
    trees: list[str] = []
    volumes = len(recipe.options.image_volumes)
    try:
        # The last try's record would be taken for this one's after a crash.
        (engine.directories.of(container.id) / "exit").unlink(missing_ok=True)
        for path, recursive in recipe.foreign:
            fds.append(engine.trees.open(path, recursive))
            trees.append(path)
        for number, place in enumerate(engine.directories.volumes.places(container.id, volumes)):
            fds.append(engine.trees.open(place, True))
            trees.append(image_volumes.source(number))
        spawn = _spawn(engine, container, recipe, trees)
        engine.tasks[container.id] = task
        if streams is not None:
            # Before the spawn: a program that ends at once is faster than a message that comes behind it.
            await task.attach_ahead(streams.wish, streams.fds)
        await engine.zygote.spawn(spawn, fds)
        engine.nursery.start_soon(task.run)
    except BaseException:
        engine.tasks.pop(container.id, None)
        keeper.give_place_back()
        task.line.close()
        raise
    finally:
        theirs.close()
        for fd in fds[1:]:
            os.close(fd)
    return task


def _spawn(engine: Engine, container: Container, recipe: Recipe, trees: list[str]) -> Spawn:
    return Spawn(
        container.id,
        recipe.packed.key,
        container.options.hostname or container.id[:12],
        own_env(container),
        [engine.directories.snapshots.mount(container.id, recipe.source, container.options.read_only)],
        engine.cgroups.of(container.id),
        str(engine.directories.of(container.id)),
        trees,
        time.monotonic_ns(),
    )
