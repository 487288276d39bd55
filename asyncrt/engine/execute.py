"""Exec: one more process in a running container, with the caller's own fds as its streams."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence

import trio

from asyncrt.engine.create import own_env, recipe_for
from asyncrt.engine.engine import Engine
from asyncrt.engine.policy import exec_process
from asyncrt.engine.stop import task_of
from asyncrt.errors import AsyncrtError, BadRequest, Conflict
from asyncrt.model.container import Container
from asyncrt.model.options import ExecOptions
from asyncrt.supervisor import pressure
from asyncrt.supervisor.task import ExecTask
from shimd.spec.config import Process
from shimd.spec.decode import encode
from shimd.wire.channel import close_all

START_SECONDS = 60.0
_ID = re.compile(r"[0-9a-f]{1,64}")


async def execute(
    engine: Engine, container: Container, options: ExecOptions, fds: Sequence[int], id: str = ""
) -> ExecTask:
    """Begin; the returned task's `started` is set. Conflict if it does not run, StartFailed (125 to 127)."""
    task = task_of(engine, container, "exec in")
    if container.state == "paused":
        raise Conflict("exec in", container.name, "it is paused", "asyncrt unpause lets it go on")
    process = await _process(container, options, await _base(engine, container))
    if id and not _ID.fullmatch(id):
        raise BadRequest("exec in", container.name, f'"{id}" is no id of an exec', "1 to 64 hex digits")
    if id in task.execs or id in task.exec_records:
        raise Conflict("exec in", container.name, f"there is an exec {id} already")
    execution = await task.exec(id or secrets.token_hex(32), encode(process), fds)
    try:
        with trio.fail_after(START_SECONDS):
            pid = await execution.started.wait()
    except BaseException:
        close_all(execution.master)
        raise
    if engine.cgroups.has_accounts_beside(container.id):
        await trio.to_thread.run_sync(pressure.gather, engine.cgroups, container.id)
    engine.note("exec_start", container, exec=execution.id, pid=pid, command=" ".join(options.args)[:200])
    engine.nursery.start_soon(_note_end, engine, container, execution)
    return execution


async def _base(engine: Engine, container: Container) -> Process:
    """The container's own process; worked out once, since a policy takes longer than the rest of an exec."""
    base = engine.bases.get(container.id)
    if base is None:
        recipe = await recipe_for(engine, container.options, starting=False)
        base = recipe.config.process
        assert base is not None
        base = engine.bases[container.id] = base._replace(env=(*base.env, *own_env(container)))
    return base


async def _process(container: Container, options: ExecOptions, base: Process) -> Process:
    if not options.user:
        return exec_process(options, base, "", container.options.env)

    def read() -> Process:
        # The container's own root as it is now: its passwd may have changed since it started.
        root = os.open(f"/proc/{container.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return exec_process(options, base, root, container.options.env)
        finally:
            os.close(root)

    try:
        return await trio.to_thread.run_sync(read)
    except OSError as error:
        raise Conflict("exec in", container.name, "it ended") from error


async def _note_end(engine: Engine, container: Container, execution: ExecTask) -> None:
    """Whoever asked for it may be gone by then. A container that ends takes its execs along and says so itself."""
    with contextlib.suppress(AsyncrtError):
        record = await execution.ended.wait()
        engine.note("exec_die", container, exec=execution.id, code=record.code)
