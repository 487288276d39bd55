"""When the hooks of the engine's containers run, and what their failure means. The walk: docs/walks/hooks.md.

What init runs itself is in the config; the rest is run from here, for as many containers at once as come.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import structlog

from asyncrt.engine.engine import Engine
from asyncrt.errors import StartFailed, StorageFailed
from asyncrt.model.container import Container
from shimd.errors import Trouble
from shimd.spec import text
from shimd.spec.config import OCI_VERSION, Config
from shimd.spec.decode import encode
from shimd.spec.validate import load
from shimd.wire import channel
from shimd.wire.messages import AtHooks, HooksRan

_log = structlog.get_logger("asyncrt.engine.hooking")


def prepare(engine: Engine, container: Container, config: Config) -> None:
    """Before a start with hooks: write the config where their state says that it is. Blocks. StorageFailed."""
    path = engine.directories.of(container.id) / "config.json"
    try:
        path.write_text(text.write(encode(config)))
    except OSError as error:
        raise StorageFailed("write", str(path), (error.strerror or str(error)).lower()) from error


def state(engine: Engine, container: Container, status: str, pid: int = 0) -> dict[str, Any]:
    """The spec's state (runtime.md, "State"); `bundle` is the container's directory."""
    pairs = (pair.partition("=") for pair in container.options.annotations)
    found: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "id": container.id,
        "status": status,
        "bundle": str(engine.directories.of(container.id)),
        "annotations": {name: value for name, _, value in pairs},
    }
    return {**found, "pid": pid} if pid else found


async def at_hooks(engine: Engine, id: str, asked: AtHooks, answer: int) -> None:
    """init waits: run prestart and createRuntime, and say how it went to `answer`, which is ours to close."""
    line = channel.from_fd(answer)
    with contextlib.closing(line):
        container = engine.table.get(id)
        trouble: Trouble | None = Trouble("run hooks of", id[:12], "it was removed")
        if container is not None:
            now = state(engine, container, "creating", asked.pid)
            trouble = await engine.hooks.runner.run("prestart", engine.hooks.due(id, "prestart"), now)
            if trouble is None:
                trouble = await engine.hooks.runner.run("createRuntime", engine.hooks.due(id, "createRuntime"), now)
        try:
            channel.send(line, HooksRan(trouble))
        except OSError as error:
            _log.info("nobody waits for its hooks", container=id, error=str(error))


async def poststart(engine: Engine, container: Container, pid: int) -> None:
    """StartFailed at the first that fails: the caller ends the container."""
    hooks = engine.hooks.due(container.id, "poststart")
    if not hooks:
        return
    trouble = await engine.hooks.runner.run("poststart", hooks, state(engine, container, "running", pid))
    if trouble is not None:
        raise StartFailed(trouble.deed, trouble.subject, trouble.cause, trouble.hint, trouble.code)


async def poststop(engine: Engine, container: Container) -> None:
    """All of them, then note that it is done. A supervisor that dies meanwhile leaves that to the next."""
    hooks = engine.hooks.due(container.id, "poststop")
    await engine.hooks.runner.run_all("poststop", hooks, state(engine, container, "stopped"))
    now = engine.table.get(container.id)
    if now is not None and now.poststop_due:
        engine.record(msgspec.structs.replace(now, poststop_due=False))


def read_back(engine: Engine, container: Container) -> None:
    """A container that a supervisor before us started: its hooks, as they were then. Blocks."""
    path = engine.directories.of(container.id) / "config.json"
    try:
        engine.hooks.keep(container.id, load(text.read(path.read_text())).hooks)
    except (OSError, ValueError) as error:
        _log.error("its hooks are lost", container=container.id, error=str(error))
