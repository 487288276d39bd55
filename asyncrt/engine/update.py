"""Update: other limits for a container, at once where it runs, and for its next start."""

from __future__ import annotations

import msgspec

from asyncrt.engine import limits
from asyncrt.engine.ending import watch
from asyncrt.engine.engine import Engine
from asyncrt.engine.stop import task_of
from asyncrt.errors import BadRequest, Conflict
from asyncrt.model.container import Container
from asyncrt.model.options import Options
from asyncrt.model.protocol import Update
from shimd.spec.config import Cpu, Memory, Pids, Resources
from shimd.spec.decode import encode

NONE = -1


async def update(engine: Engine, container: Container, wish: Update) -> None:
    """All or nothing: the kernel's refusal is a Conflict, and all limits are as before. BadRequest: no such limit."""
    asked = {name: getattr(wish, name) for name in wish.__struct_fields__ if name != "refs"}
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        flags = "--memory, --cpus, --cpuset-cpus, --pids-limit"
        raise BadRequest("update", container.name, "no limit was given", flags)
    options = msgspec.structs.replace(container.options, **changes)
    whole = limits.resources(options)  # what cannot be given is refused for a container that does not run as well
    if container.state in ("running", "paused"):
        await task_of(engine, container, "update").update(encode(_changed(whole, changes)))
    now = engine.table.get(container.id)
    if now is None:
        raise Conflict("update", container.name, "it was removed")
    known = msgspec.structs.replace(now, options=options)
    engine.record(known, "update", **_told(options, changes))
    if known.state in ("running", "paused"):
        watch(engine, known)


def _changed(whole: Resources, changes: dict[str, object]) -> Resources:
    """Of what is to be limited in all, what is to be written; a limit that is lifted is said so."""
    memory, cpu, pids = Memory(), Cpu(), Pids()
    if "memory" in changes:
        memory = whole.memory if whole.memory.limit else _lifted_memory()
    if "cpus" in changes:
        cpu = Cpu(quota=whole.cpu.quota or NONE, period=whole.cpu.period or limits.PERIOD)
    if "cpuset_cpus" in changes:
        cpu = cpu._replace(cpus=whole.cpu.cpus)
    if "pids_limit" in changes:
        pids = whole.pids if whole.pids.limit else Pids(NONE)
    return Resources(memory=memory, cpu=cpu, pids=pids)


def _lifted_memory() -> Memory:
    return Memory(limit=NONE, swap=NONE if limits.swap_is_counted() else None)


def _told(options: Options, changes: dict[str, object]) -> dict[str, str | int]:
    return {name: str(getattr(options, name)) for name in changes}
