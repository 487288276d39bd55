"""Remove: end it if it runs, let the shim go, then directories, then the record.

A second try goes on where one broke off; one that meets another under way (`rm -f` of a container that --rm is
taking away) waits for it and shares its success.
"""

from __future__ import annotations

import trio

from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, StorageFailed
from asyncrt.metadata.changes import AppendEvent, DropContainer
from asyncrt.model.container import Container
from asyncrt.supervisor.promise import Promise
from asyncrt.supervisor.task import Task

SIGKILL = 9
END_SECONDS = 30.0  # for a killed container; past it something in the kernel is stuck
GO_SECONDS = 10.0  # for a shim that was let go


async def remove(engine: Engine, id: str, force: bool, volumes: bool = False) -> None:
    """Conflict if it runs and `force` is not asked for; StorageFailed names what stays behind.

    `volumes`: those that its image asked for go as well, as they always do with one that removes itself.
    """
    while (other := engine.removing.get(id)) is not None:
        try:
            return await other.wait()
        except AsyncrtError:
            if not force:
                raise  # with force, what stopped the other may not stop this one
    container = engine.table.get(id)
    if container is None:
        raise NoSuchObject("remove", id[:12], "there is no such container")
    engine.removing[id] = outcome = Promise[None]()
    try:
        await _remove(engine, container, force, volumes)
        outcome.set(None)
    except AsyncrtError as error:
        outcome.fail(error)
        raise
    finally:
        del engine.removing[id]
        outcome.fail(Conflict("remove", container.name, "who asked for it left before it was done", "ask again"))


async def _remove(engine: Engine, container: Container, force: bool, volumes: bool) -> None:
    task = engine.tasks.get(container.id) or engine.leaving.get(container.id)
    if task is not None:
        await _end(engine, container, task, force)
    await engine.let_go(container.id)
    if (volumes or container.options.auto_remove) and container.options.image_volumes:
        await trio.to_thread.run_sync(engine.directories.volumes.remove, [container.id])
    await engine.sweeper.remove(container.id)
    with trio.CancelScope(shield=True):
        gone = AppendEvent("destroy", container.id, container.name)
        await engine.writer.commit([DropContainer(container.id), gone])
        engine.bury(engine.table.get(container.id) or container)


async def _end(engine: Engine, container: Container, task: Task, force: bool) -> None:
    """Kill what runs and wait until its shim is gone: what it holds must not outlive the directories."""
    if not task.ended.done:
        if not force:
            raise Conflict("remove", container.name, "it is running", "stop it, or use -f")
        with trio.move_on_after(END_SECONDS) as patience:
            while not task.over.is_set():
                try:
                    await task.kill(SIGKILL)
                    engine.thaw(container.id)
                except (AsyncrtError, OSError):
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
