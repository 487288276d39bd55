"""Kill and stop: a signal to the container's init, and what follows it."""

from __future__ import annotations

import contextlib

import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.remove import END_SECONDS, SIGKILL
from asyncrt.errors import BadRequest, Conflict, StorageFailed
from asyncrt.model.container import Container
from asyncrt.supervisor.task import Task

SIGTERM = 15
LAST_SIGNAL = 64


async def kill(engine: Engine, container: Container, signal: int, all: bool = False) -> None:
    """Send one signal, to its first process or to `all`. Conflict if it does not run."""
    if not 1 <= signal <= LAST_SIGNAL:
        raise BadRequest("kill", container.name, f"there is no signal {signal}", f"1 to {LAST_SIGNAL}")
    task = task_of(engine, container, "kill")
    if all:
        await trio.to_thread.run_sync(engine.cgroups.signal_all, container.id, signal)
    else:
        await task.kill(signal)
    engine.note("kill", container, signal=signal)
    if signal == SIGKILL:
        thawed(engine, container)


def thawed(engine: Engine, container: Container) -> None:
    """Let a paused container see its signals: on cgroup v1 not even SIGKILL ends what is frozen."""
    with contextlib.suppress(OSError):  # it ended
        engine.thaw(container.id)


async def stop(engine: Engine, container: Container, timeout: float) -> None:
    """The stop signal, SIGKILL after `timeout` seconds; done when it ended. What does not run is stopped already."""
    if container.id not in engine.tasks:
        return
    task = task_of(engine, container, "stop")
    await kill(engine, container, container.options.stop_signal or SIGTERM)
    thawed(engine, container)
    with trio.move_on_after(timeout) as patience:
        await task.over.wait()
    if not patience.cancelled_caught:
        return
    with trio.move_on_after(END_SECONDS) as patience:
        if not task.over.is_set():
            await kill(engine, container, SIGKILL)
            await task.over.wait()
    if patience.cancelled_caught:
        raise StorageFailed("stop", container.name, f"it outlived SIGKILL for {END_SECONDS:.0f} s")


def task_of(engine: Engine, container: Container, deed: str) -> Task:
    """The living task of a container; Conflict if it has none."""
    task = engine.tasks.get(container.id)
    if task is None or not task.started.done:
        raise Conflict(deed, container.name, f"it is not running (it is {container.state})")
    return task
