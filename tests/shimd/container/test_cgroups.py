"""Which limit becomes which file, for v1 and v2."""

import pytest

from shimd.container.cgroups import CreateCgroup, MissingController, WriteCgroup, compile_cgroups, limits
from shimd.errors import RuntimeTrouble
from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import Cpu, Memory, Pids, Resources

V1 = [
    Hierarchy(1, f"/cg/{name}", tuple(name.split(",")))
    for name in ("cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
]
V2 = [Hierarchy(2, "/sys/fs/cgroup", ("cpuset", "cpu", "io", "memory", "pids"))]
MIB = 1 << 20
EVERYTHING = Resources(
    memory=Memory(limit=64 * MIB, reservation=32 * MIB, swap=96 * MIB),
    cpu=Cpu(shares=512, quota=25000, period=50000, cpus="0-1", mems="0"),
    pids=Pids(17),
)


def files(resources: Resources, version: int) -> dict[str, str]:
    return {file: value for _, _, file, value in limits(resources, version)}


def test_all_of_v1() -> None:
    assert files(EVERYTHING, 1) == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(96 * MIB),
        "memory.soft_limit_in_bytes": str(32 * MIB),
        "cpu.shares": "512",
        "cpu.cfs_period_us": "50000",
        "cpu.cfs_quota_us": "25000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "17",
    }


def test_all_of_v2() -> None:
    assert files(EVERYTHING, 2) == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(32 * MIB),  # v2 counts swap alone
        "memory.low": str(32 * MIB),
        "cpu.weight": "20",
        "cpu.max": "25000 50000",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
        "pids.max": "17",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_asked_for_is_nothing_written(version: int) -> None:
    assert limits(Resources(), version) == []


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (2, 1), (3, 1), (512, 20), (1024, 39), (2048, 79), (262144, 10000), (10**9, 10000)]
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


@pytest.mark.parametrize("version", [1, 2])
def test_minus_one_is_no_limit(version: int) -> None:
    found = files(Resources(memory=Memory(limit=-1, swap=-1), pids=Pids(-1)), version)
    if version == 1:
        assert found == {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1", "pids.max": "max"}
    else:
        assert found == {"memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}


def test_swap_without_a_memory_limit() -> None:
    assert files(Resources(memory=Memory(swap=-1)), 2) == {"memory.swap.max": "max"}
    with pytest.raises(RuntimeTrouble, match=r"\$\.linux\.resources\.memory\.swap: it counts memory too"):
        limits(Resources(memory=Memory(swap=MIB)), 2)


def test_memory_before_memory_and_swap() -> None:
    """The kernel refuses a memsw limit that is below the memory limit of the moment."""
    names = [file for _, _, file, _ in limits(EVERYTHING, 1)]
    assert names.index("memory.limit_in_bytes") < names.index("memory.memsw.limit_in_bytes")


def test_only_hierarchies_that_are_needed() -> None:
    def entered(resources: Resources) -> list[str]:
        return [step.hierarchy.mount for step in compile_cgroups(resources, V1) if isinstance(step, CreateCgroup)]

    base = ["/cg/cpu,cpuacct", "/cg/memory", "/cg/devices", "/cg/freezer", "/cg/pids"]
    assert entered(Resources()) == base
    assert entered(Resources(cpu=Cpu(cpus="0"))) == ["/cg/cpu,cpuacct", "/cg/cpuset", *base[1:]]


def test_a_cgroup_is_made_before_its_limits() -> None:
    for trees in (V1, V2):
        steps = compile_cgroups(EVERYTHING, trees)
        kinds = [type(step) for step in steps]
        assert kinds == sorted(kinds, key=[CreateCgroup, WriteCgroup].index)
        made = {step.hierarchy.mount for step in steps if isinstance(step, CreateCgroup)}
        assert {step.mount for step in steps if isinstance(step, WriteCgroup)} <= made


@pytest.mark.parametrize("trees", [[], V1[:1], [Hierarchy(2, "/sys/fs/cgroup", ("cpu",))]])
def test_a_limit_that_this_machine_cannot_keep(trees: list[Hierarchy]) -> None:
    steps = compile_cgroups(Resources(pids=Pids(17)), trees)
    assert steps[-1] == MissingController("pids.limit", "pids")
    assert steps[-1].describe() == ("set limit", "pids.limit (this machine mounts no pids controller)")
