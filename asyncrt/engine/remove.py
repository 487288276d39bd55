"""Remove: end it if it runs, let the shim go, then directories, then the record.

A second try goes on where one broke off.
"""

from __future__ import annotations

import trio

from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, StorageFailed
from asyncrt.metadata.changes import AppendEvent, DropContainer
from asyncrt.model.container import Container
from asyncrt.supervisor.task import Task

SIGKILL = 9
END_SECONDS = 30.0  # for a killed container; past it something in the kernel is stuck
GO_SECONDS = 10.0  # for a shim that was let go


async def remove(engine: Engine, id: str, force: bool) -> None:
    """Conflict if it runs and `force` is not asked for; StorageFailed names what stays behind."""
    container = engine.table.get(id)
    if container is None:
        raise NoSuchObject("remove", id[:12], "there is no such container")
    if id in engine.removing:
        raise Conflict("remove", container.name, "it is being removed already")
    engine.removing.add(id)
    try:
        task = engine.tasks.get(id) or engine.leaving.get(id)
        if task is not None:
            await _end(engine, container, task, force)
        await engine.sweeper.remove(id)
        with trio.CancelScope(shield=True):
            gone = AppendEvent("destroy", container.id, container.name)
            await engine.writer.commit([DropContainer(id), gone])
            engine.bury(engine.table.get(id) or container)
    finally:
        engine.removing.discard(id)


async def _end(engine: Engine, container: Container, task: Task, force: bool) -> None:
    """Kill what runs and wait until its shim is gone: what it holds must not outlive the directories."""
    if not task.ended.done:
        if not force:
            raise Conflict("remove", container.name, "it is running", "stop it, or use -f")
        with trio.move_on_after(END_SECONDS) as patience:
            while not task.over.is_set():
                try:
                    await task.kill(SIGKILL)
                except AsyncrtError:
                    break  # it ended in this moment
                await task.over.wait()
        if patience.cancelled_caught:
            raise StorageFailed("end", container.name, f"it outlived SIGKILL for {END_SECONDS:.0f} s")
    with trio.move_on_after(GO_SECONDS) as patience:
        if not task.gone.is_set():
            await task.release()
            await task.gone.wait()
    if patience.cancelled_caught:
        raise StorageFailed("end the shim of", container.name, f"it did not go for {GO_SECONDS:.0f} s")
