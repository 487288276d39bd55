"""--memory, --cpus, --cpuset-cpus and --pids-limit to the spec's resources."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from asyncrt.errors import BadRequest
from asyncrt.model.options import Options
from asyncrt.model.quantities import SMALLEST_MEMORY
from shimd.spec.config import Cpu, Memory, Pids, Resources
from shimd.spec.lists import is_cpu_list

PERIOD = 100_000  # microseconds; docker's, and the kernel's default
CGROUPS = Path("/sys/fs/cgroup")


def resources(options: Options) -> Resources:
    """What the cgroup is to limit; BadRequest for a value that no machine, or not this one, can give."""
    return Resources(memory=_memory(options.memory), cpu=_cpu(options), pids=_pids(options.pids_limit))


def _memory(limit: int) -> Memory:
    if limit in (0, -1):
        return Memory()
    if limit < SMALLEST_MEMORY:
        raise BadRequest("read", "--memory", f"{limit} bytes are too few", "at least 6m, or 0 for no limit")
    # As docker documents: without --memory-swap a container may have as much swap as memory. The spec's
    # `swap` is the sum of both. Where swap is not counted (swapaccount=0) the limit is on memory alone, as
    # docker does with a warning; asking for it there would be an error of the runtime.
    return Memory(limit=limit, swap=2 * limit if swap_is_counted() else None)


@functools.cache
def swap_is_counted() -> bool:
    """Whether this kernel limits swap by cgroup."""
    if (CGROUPS / "cgroup.controllers").exists():
        # The root has no such file: its first child that has the controller shows.
        return any(CGROUPS.glob("*/memory.swap.max")) or any(CGROUPS.glob("*/*/memory.swap.max"))
    return (CGROUPS / "memory/memory.memsw.limit_in_bytes").exists()


def _cpu(options: Options) -> Cpu:
    online = _online()
    cores = 0.0 if options.cpus == -1 else options.cpus
    if not 0 <= cores <= len(online) or 0 < cores < 0.01:  # a quota is at least 1000 us
        hint = f"from 0.01 to {len(online)}, as this machine has {len(online)}"
        raise BadRequest("read", "--cpus", f"{cores:g} cannot be given", hint)
    wished = options.cpuset_cpus
    if wished and (not is_cpu_list(wished) or ":" in wished):
        raise BadRequest("read", "--cpuset-cpus", f'"{wished}" is no list of cpus', "write it as 0-2,7")
    if wished and not (asked := _expand(wished)) <= online:
        missing = ", ".join(str(cpu) for cpu in sorted(asked - online)[:8])
        raise BadRequest("read", "--cpuset-cpus", f"this machine has no cpu {missing}")
    if not cores:
        return Cpu(cpus=wished)
    return Cpu(quota=round(cores * PERIOD), period=PERIOD, cpus=wished)


def _online() -> set[int]:
    try:
        return _expand(Path("/sys/devices/system/cpu/online").read_text())
    except OSError:  # no sysfs, where the engine runs in a container itself
        return set(range(os.cpu_count() or 1))


def _expand(text: str) -> set[int]:
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.strip().partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _pids(limit: int) -> Pids:
    if limit in (0, -1):
        return Pids()
    if limit < 0:
        raise BadRequest("read", "--pids-limit", f"{limit} cannot be given", "at least 1, or 0 for no limit")
    return Pids(limit)
