"""Start: template, spawn, and the first word of the shim.

From the moment the spawn is sent the container belongs to its task, which tells the keeper (ending.py) what becomes
of it, whether or not anybody still waits here.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import trio

from asyncrt.engine.create import Recipe, recipe_for
from asyncrt.engine.ending import Keeper
from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, Conflict, StartFailed
from asyncrt.model.container import Container
from asyncrt.supervisor.line import Line
from asyncrt.supervisor.task import Task
from shimd.wire.messages import Spawn

# Above the midwife's own limit for a set-up: who waits here hears her reason first.
START_SECONDS = 75.0


class Streams(NamedTuple):
    """What a start attaches at once, so that no byte can be missed: stdin (a pipe to read) or not, stdout, stderr."""

    stdin: bool
    fds: Sequence[int]


async def start(
    engine: Engine, container: Container, asked_ns: int, recipe: Recipe | None = None, streams: Streams | None = None
) -> Container:
    """Start a created or ended container; its record once it runs.

    Conflict if it runs; StartFailed (code 125 to 127) with everything undone: the container is as before, with the
    reason in `error`.
    """
    if container.id in engine.tasks or container.state not in ("created", "stopped"):
        raise Conflict("start", container.name, f"it is {container.state}")
    task = await _begin(engine, container, asked_ns, recipe, streams)
    try:
        with trio.fail_after(START_SECONDS):
            await task.started.wait()
    except trio.TooSlowError:
        task.line.close()
        raise StartFailed("start", container.name, f"no answer for {START_SECONDS:.0f} s") from None
    except AsyncrtError as error:
        known = engine.table.get(container.id)
        if known is not None:
            engine.record(_with_error(known, str(error)), "start_failed", code=error.code)
        raise
    return engine.table.get(container.id) or engine.departed.get(container.id) or container


async def _begin(
    engine: Engine, container: Container, asked_ns: int, recipe: Recipe | None, streams: Streams | None
) -> Task:
    """Send the spawn when there is room for one more; the limiter's token goes back when it runs or failed."""
    recipe = recipe or await recipe_for(engine, container.options)
    await engine.zygote.template(recipe.packed)
    await engine.starting.acquire_on_behalf_of(container.id)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    keeper = Keeper(engine, asked_ns, container.id)
    task = Task(container.id, Line(ours), keeper)
    fds = [theirs.fileno()]
    trees: list[str] = []
    try:
        if container.state == "stopped":  # the last run's record would be taken for this one's after a crash
            (engine.directories.of(container.id) / "exit").unlink(missing_ok=True)
        for path, recursive in recipe.foreign:
            fds.append(engine.trees.open(path, recursive))
            trees.append(path)
        spawn = _spawn(engine, container, recipe, trees)
        engine.tasks[container.id] = task
        if streams is not None:
            # Before the spawn: a program that ends at once is faster than a message that comes behind it.
            await task.attach_ahead(streams.stdin, streams.fds)
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
    short = container.id[:12]
    hostname = container.options.hostname or short
    env = [f"HOSTNAME={hostname}", f"ASYNCRT_INDEX={container.index}"]
    asked = {entry.partition("=")[0] for entry in container.options.env}
    return Spawn(
        container.id,
        recipe.packed.key,
        hostname,
        [entry for entry in env if entry.partition("=")[0] not in asked],
        [engine.directories.snapshots.mount(container.id, recipe.source, container.options.read_only)],
        engine.cgroups.of(container.id),
        str(engine.directories.of(container.id)),
        trees,
        time.monotonic_ns(),
    )


def _with_error(container: Container, error: str) -> Container:
    return msgspec.structs.replace(container, state="created", error=error, pid=0, shim_pid=0)
