"""Pause and unpause: every process of a container stands still, by its freezer cgroup.

A frozen cgroup that no record calls paused is somebody's crash, and the next supervisor thaws it (`after_restart`): so
the freezing comes first and the record after it, and on the way back the other way round.
"""

from __future__ import annotations

import contextlib
import errno

import msgspec
import structlog
import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.stop import task_of
from asyncrt.errors import Conflict
from asyncrt.model.container import Container
from shimd.linux import freezer

GONE = (errno.ENOENT, errno.ENODEV)
_log = structlog.get_logger("asyncrt.engine.pause")


async def pause(engine: Engine, container: Container) -> None:
    """Conflict if it does not run, or if one of its tasks cannot be stopped: then all run on."""
    task_of(engine, container, "pause")
    if container.state != "running":
        raise Conflict("pause", container.name, f"it is {container.state}")
    version, directory = engine.cgroups.freezer(container.id)
    with trio.CancelScope(shield=True):  # freezer.freeze takes back what it cannot end
        try:
            await trio.to_thread.run_sync(freezer.freeze, version, directory)
        except OSError as error:
            raise _conflict("pause", container, error) from error
        now = engine.table.get(container.id)
        if now is None or now.state != "running":  # it was killed before it froze, or somebody was faster
            with contextlib.suppress(OSError):
                if now is None or now.state != "paused":
                    freezer.thaw(version, directory)
            raise Conflict("pause", container.name, "it ended" if now is None else f"it is {now.state}")
        engine.record(msgspec.structs.replace(now, state="paused"), "pause")


async def unpause(engine: Engine, container: Container) -> None:
    """Conflict if it is not paused."""
    task_of(engine, container, "unpause")
    if container.state != "paused":
        raise Conflict("unpause", container.name, f"it is {container.state}, not paused")
    try:
        engine.thaw(container.id)
    except OSError as error:
        raise _conflict("unpause", container, error) from error


def after_restart(engine: Engine, was: Container) -> None:
    """Bring freezer and record together for an adopted container; `was` is its record of before."""
    now = engine.table.get(was.id)
    if now is None or now.state != "running":
        return
    version, directory = engine.cgroups.freezer(was.id)
    if not freezer.is_frozen(version, directory):
        return
    if was.state == "paused":
        engine.record(msgspec.structs.replace(now, state="paused"))
        return
    _log.info("thaw what no record calls paused", container=was.id)
    try:
        freezer.thaw(version, directory)
    except OSError as error:
        _log.error("thaw", container=was.id, error=str(error))


def _conflict(deed: str, container: Container, error: OSError) -> Conflict:
    cause = "it ended" if error.errno in GONE else (error.strerror or str(error)).lower()
    return Conflict(deed, container.name, cause)
