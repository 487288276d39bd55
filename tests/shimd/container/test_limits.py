"""Which limit becomes which file, for v1 and v2."""

from pathlib import Path
from typing import Any

import pytest

from shimd.container import limits
from shimd.container.limits import LIMITS, settings
from shimd.errors import RuntimeTrouble
from shimd.spec.resources import UNSET_SWAPPINESS, Cpu, Memory, Pids, Resources
from tests.shimd.resources import EVERYTHING, MIB, read

TOP = Path(__file__).resolve().parents[3]
V1_ALONE: dict[str, Any] = {
    "memory": {
        "kernel": 8 * MIB,
        "kernelTCP": 4 * MIB,
        "swappiness": 0,
        "disableOOMKiller": True,
        "useHierarchy": True,
    },
    "cpu": {"realtimeRuntime": 950, "realtimePeriod": 1000},
    "blockIO": {"leafWeight": 300, "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 20}]},
    "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}, {"name": "lo", "priority": 0}]},
}


def writes(resources: Resources, version: int) -> list[tuple[str, ...]]:
    """file=value of each setting; several where the kernel decides which it is."""
    return [tuple(f"{file}={value}" for file, value in one.choices) for one in settings(resources, version)]


def files(resources: Resources, version: int) -> dict[str, str]:
    return {one.choices[0][0]: one.choices[0][1] for one in settings(resources, version)}


def test_all_of_v1() -> None:
    assert writes(read(EVERYTHING), 1) == [
        (f"memory.limit_in_bytes={64 * MIB}",),
        (f"memory.memsw.limit_in_bytes={96 * MIB}",),
        (f"memory.soft_limit_in_bytes={32 * MIB}",),
        ("cpu.shares=512",),
        ("cpu.idle=1",),
        ("cpu.cfs_period_us=50000",),
        ("cpu.cfs_quota_us=25000",),
        ("cpu.cfs_burst_us=10000",),
        ("cpuset.cpus=0-1",),
        ("cpuset.mems=0",),
        ("pids.max=17",),
        ("blkio.weight=500", "blkio.bfq.weight=500"),
        ("blkio.weight_device=8:0 10", "blkio.bfq.weight_device=8:0 10"),
        ("blkio.throttle.read_bps_device=8:0 1000",),
        ("blkio.throttle.write_bps_device=8:0 1000",),
        ("blkio.throttle.read_iops_device=8:0 1000",),
        ("blkio.throttle.write_iops_device=8:16 0",),
        (f"hugetlb.2MB.limit_in_bytes={4 * MIB}",),
        (f"hugetlb.2MB.rsvd.limit_in_bytes={4 * MIB}",),
        ("rdma.max=mlx5_1 hca_handle=3 hca_object=10000",),
        ("rdma.max=mlx4_0 hca_object=7",),
    ]


def test_what_v1_alone_has() -> None:
    assert writes(read(V1_ALONE), 1) == [
        (f"memory.kmem.limit_in_bytes={8 * MIB}",),
        (f"memory.kmem.tcp.limit_in_bytes={4 * MIB}",),
        ("memory.swappiness=0",),
        ("memory.oom_control=1",),
        ("memory.use_hierarchy=1",),
        ("cpu.rt_period_us=1000",),
        ("cpu.rt_runtime_us=950",),
        ("blkio.leaf_weight=300",),
        ("blkio.leaf_weight_device=8:0 20",),
        ("net_cls.classid=1048577",),
        ("net_prio.ifpriomap=eth0 5",),
        ("net_prio.ifpriomap=lo 0",),
    ]


def test_all_of_v2() -> None:
    unified = {"memory.high": "1M", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cpu.weight": "7"}
    assert writes(read({**EVERYTHING, "unified": unified}), 2) == [
        (f"memory.max={64 * MIB}",),
        (f"memory.swap.max={32 * MIB}",),  # v2 counts swap alone
        (f"memory.low={32 * MIB}",),
        ("cpu.weight=59",),
        ("cpu.idle=1",),
        ("cpu.max=25000 50000",),
        ("cpu.max.burst=10000",),
        ("cpuset.cpus=0-1",),
        ("cpuset.mems=0",),
        ("pids.max=17",),
        ("io.bfq.weight=500", "io.weight=4950"),
        ("io.bfq.weight=8:0 10", "io.weight=8:0 1"),
        ("io.max=8:0 rbps=1000",),
        ("io.max=8:0 wbps=1000",),
        ("io.max=8:0 riops=1000",),
        ("io.max=8:16 wiops=max",),  # 0 is none on v1, and an error here
        (f"hugetlb.2MB.max={4 * MIB}",),
        (f"hugetlb.2MB.rsvd.max={4 * MIB}",),
        ("rdma.max=mlx5_1 hca_handle=3 hca_object=10000",),
        ("rdma.max=mlx4_0 hca_object=7",),
        ("memory.high=1M",),
        ("io.max=8:0 rbps=1",),
        ("io.max=8:16 rbps=2",),
        ("cpu.weight=7",),
    ]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        *(("memory", name) for name in ("kernel", "kernelTCP", "swappiness", "disableOOMKiller")),
        *(("cpu", name) for name in ("realtimeRuntime", "realtimePeriod")),
        *(("blockIO", name) for name in ("leafWeight", "weightDevice")),
        *(("network", name) for name in ("classID", "priorities")),
    ],
)
def test_what_v2_has_not_is_refused_by_name(place: str, name: str) -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        settings(read({place: {name: V1_ALONE[place][name]}}), 2)
    assert str(caught.value) == f"plan $.linux.resources.{place}.{name}: cgroup v2 has no such limit (leave it out)"


def test_v2_is_always_hierarchical() -> None:
    assert settings(read({"memory": {"useHierarchy": True}}), 2) == []
    with pytest.raises(RuntimeTrouble, match="useHierarchy: cgroup v2 has no such limit"):
        settings(read({"memory": {"useHierarchy": False}}), 2)
    assert files(read({"memory": {"useHierarchy": False}}), 1) == {"memory.use_hierarchy": "0"}


def test_unified_is_v2s() -> None:
    with pytest.raises(RuntimeTrouble, match=r"unified: its keys are files of cgroup v2, and this machine has .* v1"):
        settings(read({"unified": {"memory.high": "1"}}), 1)


UNSET: list[dict[str, Any]] = [
    {"memory": dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), 0)},
    {"memory": {"swappiness": UNSET_SWAPPINESS, "disableOOMKiller": False}},
    {"cpu": dict.fromkeys(("shares", "quota", "period", "realtimeRuntime", "realtimePeriod"), 0)},
    {"cpu": {"cpus": "", "mems": ""}},
    {"blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 0}]}},
    {"network": {"classID": 0, "priorities": []}, "pids": {}, "hugepageLimits": [], "rdma": {}, "unified": {}},
    {"memory": None, "cpu": None, "pids": None, "blockIO": None, "network": None, "devices": None},
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("resources", [{}, *UNSET])
def test_what_engines_write_for_unset_is_nothing_written(resources: dict[str, Any], version: int) -> None:
    assert settings(read(resources), version) == []


def test_zero_that_is_a_wish() -> None:
    wish = read({"cpu": {"idle": 0, "burst": 0}, "pids": {"limit": 0}, "memory": {"swappiness": 0}})
    expected = {"cpu.idle": "0", "cpu.cfs_burst_us": "0", "pids.max": "1", "memory.swappiness": "0"}
    assert files(wish, 1) == expected


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (3, 2), (512, 59), (1024, 100), (2048, 174), (262144, 10000), (10**9, 10000)]
)
def test_shares_become_weight(shares: int, weight: int) -> None:
    assert files(Resources(cpu=Cpu(shares=shares)), 2) == {"cpu.weight": str(weight)}


@pytest.mark.parametrize(
    ("cpu", "text"),
    [
        (Cpu(quota=-1), "max 100000"),
        (Cpu(quota=50000), "50000 100000"),
        (Cpu(period=50000), "max 50000"),
        (Cpu(quota=-1, period=20000), "max 20000"),
    ],
)
def test_cpu_max(cpu: Cpu, text: str) -> None:
    assert files(Resources(cpu=cpu), 2) == {"cpu.max": text}


@pytest.mark.parametrize("swap", [-1, None, 0])
def test_minus_one_is_no_limit(swap: int | None) -> None:
    wish = Resources(memory=Memory(limit=-1, swap=swap, reservation=-1, kernel=-1, kernel_tcp=-1), pids=Pids(-1))
    assert files(wish, 1) == {
        "memory.limit_in_bytes": "-1",
        "memory.memsw.limit_in_bytes": "-1",
        "memory.soft_limit_in_bytes": "-1",
        "memory.kmem.limit_in_bytes": "-1",
        "memory.kmem.tcp.limit_in_bytes": "-1",
        "pids.max": "max",
    }
    assert files(wish, 2) == {
        "memory.max": "max",
        "memory.swap.max": "max",
        "memory.low": "max",
        "pids.max": "max",
    }
    # Where the kernel has no file for it, there is no limit.
    optional = {one.name for version in (1, 2) for one in settings(wish, version) if one.optional}
    assert optional == {"memory.swap", "memory.kernel", "memory.kernelTCP"}


def test_swap_without_a_memory_limit() -> None:
    assert files(Resources(memory=Memory(swap=-1)), 2) == {"memory.swap.max": "max"}
    with pytest.raises(RuntimeTrouble, match=r"\$\.linux\.resources\.memory\.swap: it counts memory too"):
        settings(Resources(memory=Memory(swap=MIB)), 2)
    assert files(Resources(memory=Memory(limit=MIB, swap=MIB)), 2)["memory.swap.max"] == "0"


def test_a_weight_is_written_while_the_cgroup_is_not_idle() -> None:
    """The kernel refuses it otherwise."""
    names = [one.name for one in settings(Resources(cpu=Cpu(shares=512, idle=1)), 2)]
    assert names == ["cpu.shares", "cpu.idle"]
    names = [one.name for one in settings(Resources(cpu=Cpu(shares=512, idle=0)), 2)]
    assert names == ["cpu.idle", "cpu.shares"]


def test_every_property_has_its_row() -> None:
    """A property that the spec room reads and no row keeps would be skipped in silence."""
    camel = {"kernel_tcp": "kernelTCP", "disable_oom_killer": "disableOOMKiller", "class_id": "classID"}
    rows = {limit.name for limit in LIMITS} | {"memory.checkBeforeUpdate", "devices", "unified"}
    for field, value in Resources()._asdict().items():
        head = "blockIO" if field == "block_io" else _camel(field)
        if head in rows:
            continue
        assert hasattr(value, "_fields"), field
        for name in value._fields:
            word = camel.get(name, _camel(name).replace("Iops", "IOPS"))
            assert f"{head}.{word}" in rows, f"{head}.{word}"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def test_the_page_is_drawn_from_the_table() -> None:
    hint = "draw it again: python -m shimd.container.limits > docs/limits.md"
    assert (TOP / "docs/limits.md").read_text(encoding="utf-8") == limits.page(), hint
