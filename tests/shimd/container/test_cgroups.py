"""Which limit becomes which file, for v1 and v2."""

from pathlib import Path
from typing import Any

import pytest

from shimd.container import limits
from shimd.container.cgroups import (
    CreateCgroup,
    HandOverCgroup,
    LimitDevices,
    MissingController,
    TakeCgroup,
    WriteCgroup,
    WriteFirst,
    WriteKept,
    compile_cgroups,
    owner_of,
    place,
)
from shimd.container.limits import LIMITS, settings
from shimd.errors import RuntimeTrouble
from shimd.linux import device_rules
from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import UNSET_SWAPPINESS, Cpu, DeviceRule, Memory, Pids, Resources
from shimd.spec.validate import load
from tests.shimd.configs import NAMESPACES, config

TOP = Path(__file__).resolve().parents[3]
CONTROLLERS = "cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls net_prio rdma"
V1 = [Hierarchy(1, f"/cg/{name}", tuple(name.split(","))) for name in CONTROLLERS.split()]
V2 = [Hierarchy(2, "/sys/fs/cgroup", ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"))]
MIB = 1 << 20
USUAL = Resources(
    memory=Memory(limit=64 * MIB, reservation=32 * MIB, swap=96 * MIB),
    cpu=Cpu(shares=512, quota=25000, period=50000, cpus="0-1", mems="0"),
    pids=Pids(17),
)
RATE = [{"major": 8, "minor": 0, "rate": 1000}]
EVERYTHING: dict[str, Any] = {
    "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
    "cpu": {
        "shares": 512,
        "quota": 25000,
        "period": 50000,
        "burst": 10000,
        "cpus": "0-1",
        "mems": "0",
        "idle": 1,
    },
    "pids": {"limit": 17},
    "blockIO": {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": RATE,
        "throttleWriteBpsDevice": RATE,
        "throttleReadIOPSDevice": RATE,
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 7}},
}
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


def read(resources: dict[str, Any]) -> Resources:
    return load(config("sh", linux={"resources": resources})).linux.resources


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


def test_only_hierarchies_that_are_needed() -> None:
    def entered(resources: Resources) -> list[str]:
        return [step.hierarchy.mount for step in compile_cgroups(resources, V1) if isinstance(step, CreateCgroup)]

    base = ["/cg/cpu,cpuacct", "/cg/memory", "/cg/devices", "/cg/freezer", "/cg/pids"]
    assert entered(Resources()) == base
    assert entered(Resources(cpu=Cpu(cpus="0"))) == ["/cg/cpu,cpuacct", "/cg/cpuset", *base[1:]]
    assert entered(read({"network": {"classID": 1}}))[-1] == "/cg/net_cls"


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_default_start_writes_nothing(trees: list[Hierarchy]) -> None:
    """What a start costs: a cgroup in each hierarchy of BASE, no limit, no device rule (decision 0008)."""
    assert len(compile_cgroups(Resources(), trees)) == (5 if trees is V1 else 1)
    assert all(isinstance(step, CreateCgroup) for step in compile_cgroups(Resources(), trees))


@pytest.mark.parametrize("trees", [V1, V2])
@pytest.mark.parametrize("standalone", [False, True])
def test_a_cgroup_is_made_before_its_limits(trees: list[Hierarchy], standalone: bool) -> None:
    steps = compile_cgroups(read(EVERYTHING), trees, standalone)
    made = [step.hierarchy.mount for step in steps if isinstance(step, CreateCgroup | TakeCgroup)]
    assert all(isinstance(step, CreateCgroup | TakeCgroup) for step in steps[: len(made)])
    written = {step.mount for step in steps if isinstance(step, WriteCgroup | WriteFirst | LimitDevices)}
    assert written <= set(made)
    assert not any(isinstance(step, MissingController) for step in steps)


def test_the_three_ways_to_write() -> None:
    def kinds(resources: dict[str, Any], trees: list[Hierarchy]) -> list[type]:
        return [type(step) for step in compile_cgroups(read(resources), trees) if not isinstance(step, CreateCgroup)]

    assert kinds({"memory": {"limit": MIB}}, V1) == [WriteCgroup]
    assert kinds({"memory": {"kernel": MIB}}, V1) == [WriteKept]
    assert kinds({"memory": {"swap": -1}}, V1) == [WriteFirst]
    assert kinds({"blockIO": {"weight": 10}}, V2) == [WriteFirst]


@pytest.mark.parametrize("trees", [[], V1[:1], [Hierarchy(2, "/sys/fs/cgroup", ("cpu",))]])
def test_a_limit_that_this_machine_cannot_keep(trees: list[Hierarchy]) -> None:
    steps = compile_cgroups(Resources(pids=Pids(17)), trees)
    assert steps[-1] == MissingController("pids.limit", "pids")
    assert steps[-1].describe() == ("set limit", "pids.limit (this machine mounts no pids controller)")
    # no limit is what there is
    assert compile_cgroups(Resources(memory=Memory(swap=-1)), V1[:1]) == [CreateCgroup(V1[0])]


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_unified_key_of_an_unknown_controller(trees: list[Hierarchy]) -> None:
    if trees is V2:
        steps = compile_cgroups(read({"unified": {"misc.max": "x 1", "cgroup.max.depth": "1"}}), V2)
        assert steps[1:] == [
            MissingController("unified.misc.max", "misc"),
            WriteCgroup("/sys/fs/cgroup", "cgroup.max.depth", "1"),
        ]


DENY = DeviceRule(False)
FUSE = DeviceRule(True, "c", 10, 229, "rw")


def test_device_rules_of_v1() -> None:
    steps = compile_cgroups(Resources(devices=(DENY, FUSE)), V1)
    found = [(step.file, step.value) for step in steps if isinstance(step, WriteCgroup)]
    assert found[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 10:229 rw") in found
    assert found[1:] == [("devices.allow", str(rule)) for rule in (*_rules(FUSE), *device_rules.DEFAULT)]


def _rules(*rules: DeviceRule) -> list[device_rules.Rule]:
    return [device_rules.Rule(rule.allow, rule.type, rule.major or -1, rule.minor or -1, rule.access) for rule in rules]


def test_device_rules_of_v2() -> None:
    [_, step] = compile_cgroups(Resources(devices=(DENY, FUSE)), V2)
    rules = [device_rules.Rule(False), *_rules(FUSE), *device_rules.DEFAULT]
    assert step == LimitDevices("/sys/fs/cgroup", device_rules.program(rules), len(rules))


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_list_that_allows_everything_keeps_what_it_denies(trees: list[Hierarchy]) -> None:
    rules = (DeviceRule(True), DeviceRule(False, "c", 1, 5))
    last = compile_cgroups(Resources(devices=rules), trees)[-1]
    if isinstance(last, WriteCgroup):
        assert (last.file, last.value) == ("devices.deny", "c 1:5 rwm")
    else:
        assert isinstance(last, LimitDevices)
        assert last.rules == 2


def test_a_list_that_v1_cannot_keep() -> None:
    rules = (DENY, DeviceRule(True, "c", 10), DeviceRule(False, "c", 10, 229))
    with pytest.raises(RuntimeTrouble, match=r'plan \$\.linux\.resources\.devices: cgroup v1 cannot take "c 10:229'):
        compile_cgroups(Resources(devices=rules), V1)
    assert compile_cgroups(Resources(devices=rules), V2)


def test_who_stands_alone_enters_all_and_has_device_rules() -> None:
    steps = compile_cgroups(Resources(), V1, standalone=True)
    assert [step.hierarchy for step in steps if isinstance(step, TakeCgroup)] == V1
    assert WriteCgroup("/cg/devices", "devices.deny", "a") in steps
    assert isinstance(compile_cgroups(Resources(), V2, standalone=True)[-1], LimitDevices)


@pytest.mark.parametrize(
    ("path", "cgroup"),
    [
        ("", "/box1"),
        ("/", "/box1"),
        ("/a/b", "/a/b"),
        ("a/b", "/a/b"),
        ("//a/./b/", "/a/b"),
        ("/a:b:c", "/a:b:c"),
        ("a:b", "/a:b"),
    ],
)
def test_cgroups_path(path: str, cgroup: str) -> None:
    assert place(path, "box1") == cgroup


def test_systemds_notation_is_refused() -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        place("system.slice:runc:box", "box")
    assert str(caught.value) == (
        'plan $.linux.cgroupsPath: "system.slice:runc:box" names a unit of systemd, and there is no systemd driver '
        "(give a path such as /parent/name, or tell the engine to use the cgroupfs driver)"
    )


WRITABLE = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}]
MAPS = {key: [{"containerID": 0, "hostID": 100000, "size": 1000}] for key in ("uidMappings", "gidMappings")}
WITH_USER = (*NAMESPACES, "user")


@pytest.mark.parametrize(
    ("document", "owner"),
    [
        (config("sh"), -1),  # mounted read-only
        (config("sh", mounts=WRITABLE), -1),  # root's it is
        (config("sh", mounts=WRITABLE, process={"user": {"uid": 7, "gid": 8}}), 7),
        (config("sh", mounts=WRITABLE, namespaces=WITH_USER, linux=MAPS), 100000),
        (
            config("sh", mounts=WRITABLE, namespaces=WITH_USER, linux=MAPS, process={"user": {"uid": 7, "gid": 8}}),
            100007,
        ),
        (config("sh", mounts=WRITABLE, namespaces=("mount", "pid", "user"), linux=MAPS), -1),  # no cgroup namespace
    ],
)
def test_whose_the_cgroup_is(document: dict[str, Any], owner: int) -> None:
    """config-linux.md, "Cgroup ownership"."""
    assert owner_of(load(document)) == owner
    given = [HandOverCgroup("/sys/fs/cgroup", owner)] if owner >= 0 else []
    assert compile_cgroups(Resources(), V2, owner=owner)[1:] == given
    assert all(isinstance(step, CreateCgroup) for step in compile_cgroups(Resources(), V1, owner=owner))


def test_the_page_is_drawn_from_the_table() -> None:
    hint = "draw it again: python -m shimd.container.limits > docs/limits.md"
    assert (TOP / "docs/limits.md").read_text(encoding="utf-8") == limits.page(), hint
