"""Every limit of `linux.resources`: which property is kept by which controller's file, on cgroup v1 and v2.

A Limit is a row of LIMITS: what the config wishes, and for each version the files (the first that the kernel has is
written) with the conversion of the wish. None in a version's place: it has no such limit, and the wish is refused with
its JSON path. Device rules are not here: they are a list with an order (shimd/linux/device_rules.py).

What counts as not asked for, as runc has it (opencontainers/cgroups, fs and fs2):

    0        memory.limit, reservation, swap, kernel, kernelTCP; cpu.shares, quota, period, realtimePeriod,
             realtimeRuntime; blockIO weights; network.classID
    2^64-1   memory.swappiness (-1, written by engines whose field is unsigned)
    false    memory.disableOOMKiller
    null     all others: cpu.burst 0 and cpu.idle 0 are wishes; pids.limit 0 is the least that is possible, 1: a
             container has one process, and with none the kernel would not let it be born in its cgroup

-1 is no limit wherever a limit is a number of bytes, tasks or microseconds. Where the kernel has no file for swap or
kernel memory, -1 is what there is. Unlike runc, nothing is skipped: kernel memory is written where there is a file,
and swappiness, realtime or network on v2 are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from shimd.container.conversions import (
    Text,
    flag,
    for_device,
    handles,
    io_weight,
    most,
    one_at_least,
    page_limit,
    priority,
    rate,
    swap_alone,
    throttle,
    weight_of_shares,
)
from shimd.errors import RuntimeTrouble, Trouble
from shimd.spec.resources import UNSET_SWAPPINESS, Resources

RESOURCES = "$.linux.resources"
DEFAULT_PERIOD = 100_000  # microseconds: the kernel's


class File(NamedTuple):
    """A controller's files for a wish, each with its conversion; the names may be made of the wish (`{0.field}`)."""

    controller: str
    choices: tuple[tuple[str, Text], ...]
    optional: bool = False
    """May the kernel have none of them?"""
    kept: bool = True
    """False: some kernels take the number and do not keep it, so that it is read again."""


ELSEWHERE = File("", ())  # another row has it


class Limit(NamedTuple):
    """`wishes` gives one value for each write; none: not asked for."""

    name: str
    wishes: Callable[[Resources], Iterable[Any]]
    v1: File | None
    v2: File | None
    when: str = ""
    """Of which wishes the row is about, where the property has several rows."""


class Setting(NamedTuple):
    """One write: the first of `choices` (file, text) that exists."""

    name: str
    controller: str
    choices: tuple[tuple[str, str], ...]
    optional: bool
    kept: bool


def _asked(get: Callable[[Resources], Any], *unset: object) -> Callable[[Resources], list[Any]]:
    """The value, but for None and those that mean the same."""

    def wishes(resources: Resources) -> list[Any]:
        value = get(resources)
        return [] if value is None or value in unset else [value]

    return wishes


def _only(get: Callable[[Resources], Any], wish: object) -> Callable[[Resources], list[Any]]:
    """The value if it is this one."""
    return lambda resources: [wish] if get(resources) is not None and get(resources) == wish else []


def _swap(resources: Resources) -> list[tuple[int, int]]:
    memory = resources.memory
    return [(memory.swap, memory.limit or 0)] if memory.swap and memory.swap > 0 else []


def _unlimited_swap(resources: Resources) -> list[int]:
    """No limit on memory is none on swap, where nothing else was said."""
    memory = resources.memory
    return [-1] if memory.swap == -1 or (memory.limit == -1 and not memory.swap) else []


def _no_kernel_limit(resources: Resources) -> list[int]:
    return [-1] if resources.memory.kernel == -1 else []


def _quota(resources: Resources) -> list[tuple[int, int]]:
    cpu = resources.cpu
    return [(cpu.quota or -1, cpu.period or DEFAULT_PERIOD)] if cpu.quota or cpu.period else []


def _file(controller: str, name: str, text: Text = str) -> File:
    return File(controller, ((name, text),))


_RDMA = _file("rdma", "rdma.max", handles)

# In the order of their writing. v1 refuses memory and swap below memory, a quota or burst that does not fit its period;
# a weight is refused while the cgroup is idle.
LIMITS: tuple[Limit, ...] = (
    Limit(
        "memory.limit",
        _asked(lambda r: r.memory.limit, 0),
        _file("memory", "memory.limit_in_bytes"),
        _file("memory", "memory.max", most),
    ),
    Limit(
        "memory.swap",
        _swap,
        _file("memory", "memory.memsw.limit_in_bytes", lambda wish: str(wish[0])),
        _file("memory", "memory.swap.max", swap_alone),
    ),
    Limit(
        "memory.swap",
        _unlimited_swap,
        _file("memory", "memory.memsw.limit_in_bytes")._replace(optional=True),
        _file("memory", "memory.swap.max", most)._replace(optional=True),
        "-1, or unset with memory.limit -1",
    ),
    Limit(
        "memory.reservation",
        _asked(lambda r: r.memory.reservation, 0),
        _file("memory", "memory.soft_limit_in_bytes"),
        _file("memory", "memory.low", most),
    ),
    Limit(
        "memory.kernel",
        _asked(lambda r: r.memory.kernel, 0, -1),
        _file("memory", "memory.kmem.limit_in_bytes")._replace(kept=False),
        None,
    ),
    Limit(
        "memory.kernel",
        _no_kernel_limit,
        _file("memory", "memory.kmem.limit_in_bytes")._replace(optional=True),
        ELSEWHERE,
        "-1",
    ),
    Limit(
        "memory.kernelTCP",
        _asked(lambda r: r.memory.kernel_tcp, 0, -1),
        _file("memory", "memory.kmem.tcp.limit_in_bytes")._replace(kept=False),
        None,
    ),
    Limit(
        "memory.kernelTCP",
        _only(lambda r: r.memory.kernel_tcp, -1),
        _file("memory", "memory.kmem.tcp.limit_in_bytes")._replace(optional=True),
        ELSEWHERE,
        "-1",
    ),
    Limit(
        "memory.swappiness",
        _asked(lambda r: r.memory.swappiness, UNSET_SWAPPINESS),
        _file("memory", "memory.swappiness"),
        None,
    ),
    Limit(
        "memory.disableOOMKiller",
        _asked(lambda r: r.memory.disable_oom_killer, False),
        _file("memory", "memory.oom_control", flag),
        None,
    ),
    # v2 is always hierarchical.
    Limit(
        "memory.useHierarchy",
        _asked(lambda r: r.memory.use_hierarchy, False),
        _file("memory", "memory.use_hierarchy", flag),
        ELSEWHERE,
        "true",
    ),
    Limit(
        "memory.useHierarchy",
        _only(lambda r: r.memory.use_hierarchy, False),
        _file("memory", "memory.use_hierarchy", flag),
        None,
        "false",
    ),
    Limit("cpu.idle", _only(lambda r: r.cpu.idle, 0), _file("cpu", "cpu.idle"), _file("cpu", "cpu.idle"), "0"),
    Limit(
        "cpu.shares",
        _asked(lambda r: r.cpu.shares, 0),
        _file("cpu", "cpu.shares"),
        _file("cpu", "cpu.weight", weight_of_shares),
    ),
    Limit("cpu.idle", _only(lambda r: r.cpu.idle, 1), _file("cpu", "cpu.idle"), _file("cpu", "cpu.idle"), "1"),
    Limit("cpu.period", _asked(lambda r: r.cpu.period, 0), _file("cpu", "cpu.cfs_period_us"), ELSEWHERE),
    Limit("cpu.quota", _asked(lambda r: r.cpu.quota, 0), _file("cpu", "cpu.cfs_quota_us"), ELSEWHERE),
    Limit(
        "cpu.quota",
        _quota,
        ELSEWHERE,
        _file("cpu", "cpu.max", lambda wish: f"{most(wish[0])} {wish[1]}"),
        "and period",
    ),
    Limit(
        "cpu.burst",
        _asked(lambda r: r.cpu.burst),
        _file("cpu", "cpu.cfs_burst_us"),
        _file("cpu", "cpu.max.burst"),
    ),
    Limit("cpu.realtimePeriod", _asked(lambda r: r.cpu.realtime_period, 0), _file("cpu", "cpu.rt_period_us"), None),
    Limit("cpu.realtimeRuntime", _asked(lambda r: r.cpu.realtime_runtime, 0), _file("cpu", "cpu.rt_runtime_us"), None),
    Limit("cpu.cpus", _asked(lambda r: r.cpu.cpus, ""), _file("cpuset", "cpuset.cpus"), _file("cpuset", "cpuset.cpus")),
    Limit("cpu.mems", _asked(lambda r: r.cpu.mems, ""), _file("cpuset", "cpuset.mems"), _file("cpuset", "cpuset.mems")),
    Limit(
        "pids.limit",
        _asked(lambda r: r.pids.limit),
        _file("pids", "pids.max", one_at_least),
        _file("pids", "pids.max", one_at_least),
    ),
    # Which of the files is there depends on the kernel and its I/O scheduler.
    Limit(
        "blockIO.weight",
        _asked(lambda r: r.block_io.weight, 0),
        File("blkio", (("blkio.weight", str), ("blkio.bfq.weight", str))),
        File("io", (("io.bfq.weight", str), ("io.weight", io_weight))),
    ),
    Limit(
        "blockIO.leafWeight",
        _asked(lambda r: r.block_io.leaf_weight, 0),
        _file("blkio", "blkio.leaf_weight"),
        None,
    ),
    Limit(
        "blockIO.weightDevice",
        lambda r: [device for device in r.block_io.weight_device if device.weight],
        File(
            "blkio",
            (
                ("blkio.weight_device", for_device("weight")),
                ("blkio.bfq.weight_device", for_device("weight")),
            ),
        ),
        File("io", (("io.bfq.weight", for_device("weight")), ("io.weight", for_device("weight", io_weight)))),
        "weight",
    ),
    Limit(
        "blockIO.weightDevice",
        lambda r: [device for device in r.block_io.weight_device if device.leaf_weight],
        _file("blkio", "blkio.leaf_weight_device", for_device("leaf_weight")),
        None,
        "leafWeight",
    ),
    Limit(
        "blockIO.throttleReadBpsDevice",
        lambda r: r.block_io.throttle_read_bps_device,
        _file("blkio", "blkio.throttle.read_bps_device", throttle),
        _file("io", "io.max", rate("rbps")),
    ),
    Limit(
        "blockIO.throttleWriteBpsDevice",
        lambda r: r.block_io.throttle_write_bps_device,
        _file("blkio", "blkio.throttle.write_bps_device", throttle),
        _file("io", "io.max", rate("wbps")),
    ),
    Limit(
        "blockIO.throttleReadIOPSDevice",
        lambda r: r.block_io.throttle_read_iops_device,
        _file("blkio", "blkio.throttle.read_iops_device", throttle),
        _file("io", "io.max", rate("riops")),
    ),
    Limit(
        "blockIO.throttleWriteIOPSDevice",
        lambda r: r.block_io.throttle_write_iops_device,
        _file("blkio", "blkio.throttle.write_iops_device", throttle),
        _file("io", "io.max", rate("wiops")),
    ),
    Limit(
        "hugepageLimits",
        lambda r: r.hugepage_limits,
        _file("hugetlb", "hugetlb.{0.page_size}.limit_in_bytes", page_limit),
        _file("hugetlb", "hugetlb.{0.page_size}.max", page_limit),
        "pages",
    ),
    # Reservations are counted since Linux 5.7.
    Limit(
        "hugepageLimits",
        lambda r: r.hugepage_limits,
        _file("hugetlb", "hugetlb.{0.page_size}.rsvd.limit_in_bytes", page_limit)._replace(optional=True),
        _file("hugetlb", "hugetlb.{0.page_size}.rsvd.max", page_limit)._replace(optional=True),
        "reservations",
    ),
    Limit("network.classID", _asked(lambda r: r.network.class_id, 0), _file("net_cls", "net_cls.classid"), None),
    Limit(
        "network.priorities", lambda r: r.network.priorities, _file("net_prio", "net_prio.ifpriomap", priority), None
    ),
    Limit("rdma", lambda r: r.rdma.items(), _RDMA, _RDMA),
)


def settings(resources: Resources, version: int) -> list[Setting]:
    """The writes that keep these resources, in order. RuntimeTrouble for a limit that this version does not know."""
    found: list[Setting] = []
    for limit in LIMITS:
        file = limit.v1 if version == 1 else limit.v2
        for wish in limit.wishes(resources):
            if file is None:
                path = f"{RESOURCES}.{limit.name}"
                raise RuntimeTrouble(Trouble("plan", path, f"cgroup v{version} has no such limit", "leave it out"))
            if file is not ELSEWHERE:
                choices = tuple((name.format(wish), text(wish)) for name, text in file.choices)
                found.append(Setting(limit.name, file.controller, choices, file.optional, file.kept))
    return found + _unified(resources, version)


def _unified(resources: Resources, version: int) -> list[Setting]:
    """v2's own files, after all else; a value of several lines is as many writes, as the kernel reads them."""
    if resources.unified and version == 1:
        path = f"{RESOURCES}.unified"
        cause = "its keys are files of cgroup v2, and this machine has cgroup v1"
        raise RuntimeTrouble(Trouble("plan", path, cause, "invalid configuration"))
    return [
        Setting(f"unified.{name}", name.partition(".")[0], ((name, line),), False, True)
        for name, value in resources.unified.items()
        for line in (value.splitlines() or [""])
    ]


def page() -> str:
    """docs/limits.md."""
    lines = [
        f"| `{limit.name}`{limit.when and f' {limit.when}'} | {_cell(limit.v1)} | {_cell(limit.v2)} |"
        for limit in LIMITS
    ]
    return PAGE.format(rows="\n".join(lines))


def _cell(file: File | None) -> str:
    if file is None:
        return "refused"
    words = " or ".join(f"`{name.replace('{0.page_size}', 'SIZE')}`" for name, _ in file.choices)
    return f"{words}, if there is one" if file.optional else words


PAGE = """\
# Which limit is which file

Drawn from the table in `shimd/container/limits.py`; after a change there, draw it again:

    python -m shimd.container.limits > docs/limits.md

Properties are those of `linux.resources` (runtime-spec, config-linux.md). An empty cell: another row has it, or nothing
needs to be written. What counts as not asked for is said at the head of that file. `unified` is written as it is, after
all else, on v2 alone; `devices` is two files on v1 and a BPF program on v2 (`shimd/linux/device_rules.py`).

| property | cgroup v1 | cgroup v2 |
|---|---|---|
{rows}

The engine's flags (`asyncrt run`, `create` and `update`) are docker's, and stand for: `-m` memory.limit,
`--memory-swap` memory.swap (unset: twice the limit), `--memory-reservation`, `--memory-swappiness`,
`--oom-kill-disable` memory.disableOOMKiller; `--cpus` cpu.quota in a period of 100 ms, `--cpu-quota`, `--cpu-period`,
`-c` cpu.shares (unset: with a quota below one core as large a part of 1024), `--cpuset-cpus` cpu.cpus, `--cpuset-mems`
cpu.mems; `--pids-limit`; `--blkio-weight`,
`--blkio-weight-device`, and `--device-read-bps` with its three kin for blockIO.throttle*; `--cgroup-conf FILE=VALUE`
for `unified`. What is told of them: [cgroups.md](cgroups.md).
"""


if __name__ == "__main__":
    print(page(), end="")
