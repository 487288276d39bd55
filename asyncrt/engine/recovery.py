"""What a new supervisor finds: living shims to adopt, exits to read, ends to conclude, remains to remove.

For every container that is not known to have ended, the kernel is asked first: can one connect to its path socket?

    connects                 its shim lives: adopt it
    refused, exit record     it ended while nobody looked: the record says how
    refused, no record       the shim was killed, and its container with it: lost
    no socket, exit record   as above; the shim tidied up after itself
    no socket, running       the machine was restarted: lost
    no socket, created       it was never started, and is not: nothing starts once its supervisor is dead

docs/walks/restart.md follows one restart through these.
"""

from __future__ import annotations

import os
import time

import structlog
import trio

from asyncrt.engine import ending, hooking
from asyncrt.engine.create import place
from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError
from asyncrt.model.container import Container
from asyncrt.supervisor import line as lines
from shimd.wire.messages import ExitRecord

AT_ONCE = 32
_log = structlog.get_logger("asyncrt.engine.recovery")


async def recover(engine: Engine) -> None:
    """Bring records and machine together. Done before the first request is taken."""
    for container in engine.writer.store.load_containers():
        engine.table.put(container)
        place(engine, container)
    limiter = trio.CapacityLimiter(AT_ONCE)

    async def one(container: Container) -> None:
        async with limiter:
            await _find(engine, container)

    async with trio.open_nursery() as nursery:
        for container in engine.table:
            nursery.start_soon(one, container)
    await _remove_strays(engine)
    await trio.to_thread.run_sync(engine.directories.snapshots.init_layers.sweep, len(engine.table) == 0)


async def _find(engine: Engine, container: Container) -> None:
    if container.poststop_due:
        await trio.to_thread.run_sync(hooking.read_back, engine, container)
    path = engine.shim_socket(container.id)
    had_shim = path.exists()
    if had_shim:
        try:
            await ending.adopt(engine, container.id, await lines.connect(path))
            return
        except ending.UnknownVersion:
            raise  # no start-up then: the version that made it can stop it
        except (OSError, AsyncrtError) as error:
            _log.info("no living shim", container=container.id, reason=str(error))
    if container.state == "stopped":
        if had_shim:
            await ending.dead_shim_cleared(engine, container.id)
        if container.poststop_due:
            engine.nursery.start_soon(ending.after_stop, engine, container)
        elif container.options.auto_remove:
            engine.nursery.start_soon(ending.auto_remove, engine, container.id)
        return
    written = await trio.to_thread.run_sync(ending.read_record, engine, container.id)
    if written is not None or had_shim:
        ending.ended(engine, container.id, written or await ending.record_of_dead(engine, container.id))
        if written is not None and had_shim:
            await ending.dead_shim_cleared(engine, container.id)
    elif container.state == "running":
        await ending.dead_shim_cleared(engine, container.id)
        reason = "its shim is gone without a word: the machine was restarted, or its state directory removed"
        lost = ExitRecord(ending.KILLED, 9, False, container.started_ns, time.time_ns(), lost=reason)
        ending.ended(engine, container.id, lost)


async def _remove_strays(engine: Engine) -> None:
    """Directories, sockets and cgroups of ids that no record knows: a create that broke off, a removal that did."""

    def strays() -> set[str]:
        sockets = {name.removesuffix(".sock") for name in os.listdir(engine.state / "shims")}
        return (engine.directories.known() | sockets | engine.cgroups.ids()) - {one.id for one in engine.table}

    for id in await trio.to_thread.run_sync(strays):
        _log.info("remove what no record knows", container=id)
        await ending.dead_shim_cleared(engine, id)
        try:
            await trio.to_thread.run_sync(engine.directories.volumes.remove, [id])
            await trio.to_thread.run_sync(engine.directories.remove, [id])
        except AsyncrtError as error:
            _log.error("remove what no record knows", container=id, error=str(error))
