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
from shimd.spec.resources import BlockIo

NONE = -1


async def update(engine: Engine, container: Container, wish: Update) -> None:
    """All or nothing: the kernel's refusal is a Conflict, and all limits are as before. BadRequest: no such limit."""
    asked = {name: getattr(wish, name) for name in wish.__struct_fields__ if name not in ("refs", "limits")}
    changes = {name: value for name, value in asked.items() if value is not None}
    rarer = wish.limits.changed()
    if not changes and not rarer:
        flags = "--memory, --cpus, --cpuset-cpus, --pids-limit ..."
        raise BadRequest("update", container.name, "no limit was given", flags)
    if "oom_score_adj" in rarer:
        raise BadRequest("update", container.name, "--oom-score-adj is the process's own", "give it to run or create")
    _replace_the_other_way_to_say_it(changes, rarer)
    limits_now = msgspec.structs.replace(container.options.limits, **rarer)
    options = msgspec.structs.replace(container.options, **changes, limits=limits_now)
    changes |= rarer
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


def _replace_the_other_way_to_say_it(changes: dict[str, object], rarer: dict[str, object]) -> None:
    """--cpus is a quota and a period: the newer word counts, as in docker update; both at once stay to be refused."""
    if "cpus" in changes and not rarer.keys() & {"cpu_quota", "cpu_period"}:
        rarer |= {"cpu_quota": 0, "cpu_period": 0}
    elif rarer.keys() & {"cpu_quota", "cpu_period"}:
        changes.setdefault("cpus", 0.0)


def _changed(whole: Resources, changes: dict[str, object]) -> Resources:
    """Of what is to be limited in all, what is to be written; a limit that is lifted is said so."""
    memory, cpu, pids = Memory(), Cpu(), Pids()
    if changes.keys() & {"memory", "memory_swap"}:
        memory = Memory(limit=whole.memory.limit, swap=whole.memory.swap) if whole.memory.limit else _lifted_memory()
    for name, field in (
        ("memory_reservation", "reservation"),
        ("memory_swappiness", "swappiness"),
        ("oom_kill_disable", "disable_oom_killer"),
    ):
        if name in changes:
            memory = memory._replace(**{field: getattr(whole.memory, field)})
    if changes.keys() & {"cpus", "cpu_quota", "cpu_period"}:
        cpu = Cpu(quota=whole.cpu.quota or NONE, period=whole.cpu.period or limits.PERIOD)
        cpu = cpu._replace(shares=whole.cpu.shares or limits.SHARES)
    if "cpu_shares" in changes:
        cpu = cpu._replace(shares=whole.cpu.shares)
    if "cpuset_cpus" in changes:
        cpu = cpu._replace(cpus=whole.cpu.cpus)
    if "cpuset_mems" in changes:
        cpu = cpu._replace(mems=whole.cpu.mems)
    if "pids_limit" in changes:
        pids = whole.pids if whole.pids.limit else Pids(NONE)
    unified = whole.unified if "unified" in changes else {}
    return Resources(memory=memory, cpu=cpu, pids=pids, block_io=_block_io(whole.block_io, changes), unified=unified)


def _block_io(whole: BlockIo, changes: dict[str, object]) -> BlockIo:
    fields = {
        "blkio_weight": "weight",
        "blkio_weight_device": "weight_device",
        "device_read_bps": "throttle_read_bps_device",
        "device_write_bps": "throttle_write_bps_device",
        "device_read_iops": "throttle_read_iops_device",
        "device_write_iops": "throttle_write_iops_device",
    }
    return BlockIo()._replace(**{field: getattr(whole, field) for name, field in fields.items() if name in changes})


def _lifted_memory() -> Memory:
    return Memory(limit=NONE, swap=NONE if limits.swap_is_counted() else None)


def _told(options: Options, changes: dict[str, object]) -> dict[str, str | int]:
    rarer = options.limits
    return {name: str(getattr(rarer if name in rarer.__struct_fields__ else options, name)) for name in changes}
