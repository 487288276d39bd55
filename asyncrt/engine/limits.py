"""--memory, --cpus, --pids-limit and the rarer limits to the spec's resources. Docker's rules, where it has some."""

from __future__ import annotations

import functools
import os
import re
import stat
from pathlib import Path

from asyncrt.errors import BadRequest
from asyncrt.model.limits import DeviceRate, Limits
from asyncrt.model.options import Options
from asyncrt.model.quantities import SMALLEST_MEMORY
from shimd.spec.config import Cpu, Memory, Pids, Resources
from shimd.spec.lists import is_cpu_list
from shimd.spec.resources import BlockIo, DeviceRule, ThrottleDevice, WeightDevice

PERIOD = 100_000  # microseconds; docker's, and the kernel's default
LEAST_SHARES, SHARES, MOST_SHARES = 2, 1024, 262_144  # the kernel's
_FILE = re.compile(r"[a-z0-9]+(\.[A-Za-z0-9_]+)+")  # of a controller, or cgroup.*: never a path
CGROUPS = Path("/sys/fs/cgroup")


def resources(options: Options) -> Resources:
    """What the cgroup is to limit; BadRequest for a value that no machine, or not this one, can give."""
    rarer = options.limits
    return Resources(
        memory=_memory(options.memory, rarer),
        cpu=_cpu(options),
        pids=_pids(options.pids_limit),
        block_io=_block_io(rarer),
        unified=_unified(rarer.unified),
        # A parent of its own has not got the engine's device rules (supervisor/cgroups.py): nothing but the defaults.
        devices=(DeviceRule(False),) if options.cgroup_parent else (),
    )


def oom_score_adj(options: Options) -> int | None:
    """proc(5); BadRequest beyond it."""
    wished = options.limits.oom_score_adj
    if not -1000 <= wished <= 1000:
        raise BadRequest("read", "--oom-score-adj", f"{wished} cannot be given", "from -1000 to 1000")
    return wished or None


def _memory(limit: int, rarer: Limits) -> Memory:
    limited = limit not in (0, -1)
    if limited and limit < SMALLEST_MEMORY:
        raise BadRequest("read", "--memory", f"{limit} bytes are too few", "at least 6m, or 0 for no limit")
    reserved, swappiness = rarer.memory_reservation, rarer.memory_swappiness
    if reserved < 0 or (limited and reserved > limit):
        hint = f"at most the {limit} of --memory" if limited else "0 for none"
        raise BadRequest("read", "--memory-reservation", f"{reserved} bytes cannot be given", hint)
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise BadRequest("read", "--memory-swappiness", f"{swappiness} cannot be given", "from 0 to 100")
    if rarer.oom_kill_disable and not limited:
        cause = "without a memory limit the machine would stand still"
        raise BadRequest("read", "--oom-kill-disable", cause, "add --memory")
    return Memory(
        limit=limit if limited else None,
        swap=_swap(limit if limited else 0, rarer.memory_swap),
        reservation=reserved or None,
        swappiness=swappiness,
        disable_oom_killer=rarer.oom_kill_disable or None,
    )


def _swap(limit: int, wished: int) -> int | None:
    """Memory and swap together, as the spec has it.

    As docker documents: without --memory-swap a container may have as much swap as memory. Where swap is not counted
    (swapaccount=0) the limit is on memory alone, as docker does with a warning; a number for it is refused.
    """
    if wished == 0:
        return 2 * limit if limit and swap_is_counted() else None
    if wished == -1:
        return -1 if swap_is_counted() else None
    if not limit:
        raise BadRequest("read", "--memory-swap", "it counts memory and swap together", "add --memory")
    if wished < limit:
        hint = f"at least the {limit} of --memory, or -1 for no limit"
        raise BadRequest("read", "--memory-swap", f"{wished} bytes are too few", hint)
    if not swap_is_counted():
        raise BadRequest("read", "--memory-swap", "this kernel does not count swap", "boot with swapaccount=1")
    return wished


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
    rarer = options.limits
    quota, period = _quota(rarer)
    if cores and (quota or period):
        raise BadRequest("read", "--cpus", "it is quota and period in one", "leave out --cpu-quota and --cpu-period")
    if rarer.cpu_shares and not LEAST_SHARES <= rarer.cpu_shares <= MOST_SHARES:
        hint = f"from {LEAST_SHARES} to {MOST_SHARES}"
        raise BadRequest("read", "--cpu-shares", f"{rarer.cpu_shares} cannot be given", hint)
    mems = rarer.cpuset_mems
    if mems and (not is_cpu_list(mems) or ":" in mems):
        raise BadRequest("read", "--cpuset-mems", f'"{mems}" is no list of memory nodes', "write it as 0-1")
    if mems and not (asked := _expand(mems)) <= (nodes := _expand(_nodes())):
        missing = ", ".join(str(node) for node in sorted(asked - nodes)[:8])
        raise BadRequest("read", "--cpuset-mems", f"this machine has no memory node {missing}")
    if cores:
        quota, period = round(cores * PERIOD), PERIOD
    shares = rarer.cpu_shares or _shares(quota, period)
    return Cpu(shares=shares or None, quota=quota or None, period=period or None, cpus=wished, mems=mems)


def _shares(quota: int, period: int) -> int:
    """The weight that goes with a quota of less than a core: as large a part of the normal one; 0 where none does.

    With everybody's weight those that are held to a twentieth of a core run side by side at the beginning of each
    period, and who has work to do then stands in one queue with all of them (docs/decisions/0027).
    """
    share = quota * SHARES // (period or PERIOD)
    return max(share, LEAST_SHARES) if quota > 0 and share < SHARES else 0


def _quota(rarer: Limits) -> tuple[int, int]:
    """(quota, period) in microseconds as they were asked for, 0 for neither; sched-bwc.rst has the bounds."""
    quota, period = rarer.cpu_quota, rarer.cpu_period
    if period and not 1000 <= period <= 1_000_000:
        raise BadRequest("read", "--cpu-period", f"{period} us cannot be given", "from 1000 to 1000000")
    if quota and quota != -1 and quota < 1000:
        raise BadRequest("read", "--cpu-quota", f"{quota} us cannot be given", "at least 1000, or -1 for no limit")
    return quota, period


def _nodes() -> str:
    try:
        return Path("/sys/devices/system/node/online").read_text()
    except OSError:  # a kernel without NUMA
        return "0"


def _block_io(rarer: Limits) -> BlockIo:
    weight = rarer.blkio_weight
    if weight and not 10 <= weight <= 1000:
        raise BadRequest("read", "--blkio-weight", f"{weight} cannot be given", "from 10 to 1000, or 0 for the usual")
    weights = []
    for one in rarer.blkio_weight_device:
        if not 10 <= one.rate <= 1000:
            cause = f"{one.rate} for {one.path} cannot be given"
            raise BadRequest("read", "--blkio-weight-device", cause, "from 10 to 1000")
        weights.append(WeightDevice(*_device("--blkio-weight-device", one.path), weight=one.rate))
    return BlockIo(
        weight=weight or None,
        weight_device=tuple(weights),
        throttle_read_bps_device=_throttles("--device-read-bps", rarer.device_read_bps),
        throttle_write_bps_device=_throttles("--device-write-bps", rarer.device_write_bps),
        throttle_read_iops_device=_throttles("--device-read-iops", rarer.device_read_iops),
        throttle_write_iops_device=_throttles("--device-write-iops", rarer.device_write_iops),
    )


def _throttles(flag: str, rates: tuple[DeviceRate, ...]) -> tuple[ThrottleDevice, ...]:
    for one in rates:
        if one.rate < 1:
            raise BadRequest("read", flag, f"{one.rate} for {one.path} cannot be given", "at least 1")
    return tuple(ThrottleDevice(*_device(flag, one.path), rate=one.rate) for one in rates)


def _device(flag: str, path: str) -> tuple[int, int]:
    """(major, minor) of a block device by its path on this machine."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError) as error:
        cause = (getattr(error, "strerror", "") or str(error)).lower()
        raise BadRequest("read", flag, f"{path}: {cause}", "as in /dev/sda:1mb") from error
    if not stat.S_ISBLK(found.st_mode):
        raise BadRequest("read", flag, f"{path} is no block device", "as in /dev/sda:1mb")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def _unified(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _FILE.fullmatch(name):
            raise BadRequest("read", "--cgroup-conf", f'"{pair}" is no FILE=VALUE', "as in memory.high=100000000")
        found[name] = value
    return found


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
