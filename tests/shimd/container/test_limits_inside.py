"""Limits, read from outside in the cgroup files; what cannot be kept is said and leaves nothing."""

from pathlib import Path
from typing import Any

import pytest

from shimd.linux.cgroups import Hierarchy
from tests.shimd.configs import config, shell
from tests.shimd.line import until
from tests.shimd.stage import Container, Stage, StartFailed, TemplateFailed

pytestmark = pytest.mark.root
MIB = 1 << 20


def file(stage: Stage, container: Container, name: str) -> Path:
    """A file of the container's cgroup: on v1 the name's first word says in which hierarchy."""
    trees: list[Hierarchy] = stage.hierarchies
    controller = name.partition(".")[0]
    mounts = [tree.mount for tree in trees if tree.version == 2 or controller in tree.controllers]
    if not mounts:
        pytest.skip(f"this machine has no {controller} controller")
    return Path(mounts[0] + container.cgroup, name)


def text(stage: Stage, container: Container, name: str) -> str:
    return file(stage, container, name).read_text().strip()


def is_v1(stage: Stage) -> bool:
    return stage.hierarchies[0].version == 1


def offers(stage: Stage, name: str) -> bool:
    """Does a cgroup here have this file?"""
    controller = name.partition(".")[0]
    mounts = [tree.mount for tree in stage.hierarchies if tree.version == 2 or controller in tree.controllers]
    return bool(mounts) and Path(mounts[0] + stage.cgroup, name).exists()


# (resources, file, text): of v1 and of v2. A file that this kernel has not is told by name instead.
V1: list[tuple[dict[str, Any], str, str]] = [
    ({"memory": {"limit": 64 * MIB}}, "memory.limit_in_bytes", str(64 * MIB)),
    ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, "memory.memsw.limit_in_bytes", str(96 * MIB)),
    ({"memory": {"reservation": 32 * MIB}}, "memory.soft_limit_in_bytes", str(32 * MIB)),
    ({"memory": {"kernelTCP": 4 * MIB}}, "memory.kmem.tcp.limit_in_bytes", str(4 * MIB)),
    ({"memory": {"swappiness": 0}}, "memory.swappiness", "0"),
    ({"memory": {"disableOOMKiller": True}}, "memory.oom_control", "oom_kill_disable 1"),
    ({"memory": {"useHierarchy": True}}, "memory.use_hierarchy", "1"),
    ({"cpu": {"shares": 512}}, "cpu.shares", "512"),
    ({"cpu": {"period": 50000}}, "cpu.cfs_period_us", "50000"),
    ({"cpu": {"period": 50000, "quota": 25000}}, "cpu.cfs_quota_us", "25000"),
    ({"cpu": {"quota": 50000, "burst": 25000}}, "cpu.cfs_burst_us", "25000"),
    ({"cpu": {"realtimePeriod": 500000}}, "cpu.rt_period_us", "500000"),
    ({"cpu": {"idle": 1, "shares": 300}}, "cpu.idle", "1"),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset.cpus", "0"),
    ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
    ({"pids": {"limit": 17}}, "pids.max", "17"),
    ({"pids": {"limit": -1}}, "pids.max", "max"),
    ({"blockIO": {"weight": 300}}, "blkio.bfq.weight", "300"),
    ({"blockIO": {"leafWeight": 300}}, "blkio.leaf_weight", "300"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, "hugetlb.2MB.limit_in_bytes", str(4 * MIB)),
    ({"network": {"classID": 1048577}}, "net_cls.classid", "1048577"),
    ({"network": {"priorities": [{"name": "lo", "priority": 3}]}}, "net_prio.ifpriomap", "lo 3"),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3}}}, "rdma.max", ""),
]
V2: list[tuple[dict[str, Any], str, str]] = [
    ({"memory": {"limit": 64 * MIB}}, "memory.max", str(64 * MIB)),
    ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, "memory.swap.max", str(32 * MIB)),
    ({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}}, "memory.swap.max", "0"),
    ({"memory": {"reservation": 32 * MIB}}, "memory.low", str(32 * MIB)),
    ({"cpu": {"shares": 1024}}, "cpu.weight", "100"),
    ({"cpu": {"shares": 512}}, "cpu.weight", "59"),
    ({"cpu": {"quota": 25000, "period": 50000}}, "cpu.max", "25000 50000"),
    ({"cpu": {"quota": 50000, "burst": 25000}}, "cpu.max.burst", "25000"),
    ({"cpu": {"idle": 1, "shares": 300}}, "cpu.idle", "1"),
    ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset.cpus", "0"),
    ({"cpu": {"mems": "0"}}, "cpuset.mems", "0"),
    ({"pids": {"limit": 17}}, "pids.max", "17"),
    ({"pids": {"limit": 0}}, "pids.max", "1"),
    ({"blockIO": {"weight": 505}}, "io.weight", "default 5000"),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, "hugetlb.2MB.max", str(4 * MIB)),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}, "hugetlb.2MB.rsvd.max", str(4 * MIB)),
    ({"unified": {"memory.high": "32M", "pids.max": "33"}}, "memory.high", str(32 * MIB)),
    ({"unified": {"cgroup.max.depth": "3"}}, "cgroup.max.depth", "3"),
]


@pytest.mark.parametrize("case", V1, ids=lambda case: case[1])
def test_a_limit_of_v1_stands_in_its_file(stage: Stage, case: tuple[dict[str, Any], str, str]) -> None:
    if not is_v1(stage):
        pytest.skip("this machine has cgroup v2")
    _stands(stage, *case)


@pytest.mark.parametrize("case", V2, ids=lambda case: f"{case[1]}={case[2]}")
def test_a_limit_of_v2_stands_in_its_file(stage: Stage, case: tuple[dict[str, Any], str, str]) -> None:
    if is_v1(stage):
        pytest.skip("this machine has cgroup v1")
    _stands(stage, *case)


def _stands(stage: Stage, resources: dict[str, Any], name: str, expected: str) -> None:
    document = config("sleep", "60", linux={"resources": resources})
    if offers(stage, name):
        assert expected in text(stage, stage.start(document), name).splitlines()
        return
    controller = name.partition(".")[0]
    words = rf"set limit .*(mounts no {controller} controller|the {controller} controller has no such file here)"
    with pytest.raises(StartFailed, match=words):
        stage.start(document)
    # The reason is told before the last thing, the socket, goes.
    assert until(lambda: stage.left_of(stage.containers[-1]) == [])


@pytest.mark.parametrize("name", ["io.max", "blkio.throttle.read_bps_device"])
def test_a_throttle_of_a_device(stage: Stage, name: str) -> None:
    if not offers(stage, name):
        pytest.skip(f"no {name} here")
    disks = sorted(Path("/sys/block").iterdir(), key=lambda path: path.name.startswith("loop"))
    if not disks:
        pytest.skip("this machine has no disk")
    number = (disks[0] / "dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    rate = {"major": major, "minor": minor, "rate": 1 << 20}
    box = stage.start(config("sleep", "60", linux={"resources": {"blockIO": {"throttleReadBpsDevice": [rate]}}}))
    expected = f"{number} rbps=1048576 wbps=max" if name == "io.max" else f"{number} 1048576"
    assert expected in text(stage, box, name)


def test_init_is_in_the_cgroups_that_the_limits_ask_for(stage: Stage) -> None:
    resources = {"memory": {"limit": 64 * MIB}, "cpu": {"cpus": "0", "quota": 20000}, "pids": {"limit": 17}}
    box = stage.start(config("sleep", "60", linux={"resources": resources}))
    with open(f"/proc/{box.pid}/cgroup") as lines:
        mine = [line for line in lines if line.strip().endswith(box.cgroup)]
    assert len(mine) == (7 if is_v1(stage) else 1)


def test_a_fork_bomb_meets_its_limit(stage: Stage) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done 2>/dev/null; echo through"
    box = stage.run(shell(script, linux={"resources": {"pids": {"limit": 4}}}))
    assert b"through" not in box.log("stdout")


def test_the_least_of_tasks_is_one(stage: Stage) -> None:
    box = stage.run(shell("echo alone; true & echo never", linux={"resources": {"pids": {"limit": 0}}}))
    assert box.log("stdout") == b"alone\n"


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"cpu": {"cpus": "4000"}}, r"set limit cpuset\.cpus=4000: "),
        ({"cpu": {"quota": 10, "period": 100000}}, "set limit cpu.*: invalid argument"),
        ({"cpu": {"period": 1}}, "set limit cpu.*: invalid argument"),
        ({"memory": {"limit": 64 << 20, "swap": 128 << 20}}, r"set limit memory\.memsw.*has no such file here"),
        ({"memory": {"kernel": 8 << 20}}, "set limit memory.kmem.*limits nothing|memory controller has no such file"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1}]}},
            "set limit (io|blkio).*: no such",
        ),
    ],
)
def test_a_limit_that_the_kernel_refuses_is_named(stage: Stage, resources: dict[str, object], words: str) -> None:
    if "memsw" in words and swap_is_counted(stage):
        pytest.skip("this machine accounts for swap")
    if "kmem" in words and not is_v1(stage):
        pytest.skip("v2 refuses it when the config is read")
    with pytest.raises(StartFailed, match=words):
        stage.start(config("true", linux={"resources": resources}))
    # The reason is told before the last thing, the socket, goes.
    assert until(lambda: stage.left_of(stage.containers[-1]) == [])


def swap_is_counted(stage: Stage) -> bool:
    """v2 names swap's file otherwise, and refuses nothing here."""
    return not is_v1(stage) or offers(stage, "memory.memsw.limit_in_bytes")


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"memory": {"limit": -2}}, "$.linux.resources.memory.limit"),
        ({"memory": {"limit": "64m"}}, "$.linux.resources.memory.limit"),
        ({"memory": {"swappiness": 101}}, "$.linux.resources.memory.swappiness"),
        ({"cpu": {"cpus": "1-"}}, "$.linux.resources.cpu.cpus"),
        ({"cpu": {"shares": -1}}, "$.linux.resources.cpu.shares"),
        ({"pids": {"limit": -7}}, "$.linux.resources.pids.limit"),
        ({"devices": [{"allow": True, "type": "x"}]}, "$.linux.resources.devices[0].type"),
        ({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}, "$.linux.resources.hugepageLimits[0].pageSize"),
        ({"unified": {"../pids.max": "1"}}, '$.linux.resources.unified["../pids.max"]'),
    ],
)
def test_a_malformed_limit_is_refused_with_its_path(stage: Stage, resources: dict[str, Any], path: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        stage.template(config("true", linux={"resources": resources}))
    assert path in str(caught.value)


def test_what_the_version_has_not_is_refused_with_its_path(stage: Stage) -> None:
    if is_v1(stage):
        resources: dict[str, Any] = {"unified": {"memory.high": "1"}}
        words = r"plan \$\.linux\.resources\.unified: its keys are files of cgroup v2"
    else:
        resources = {"memory": {"swappiness": 3}}
        words = r"plan \$\.linux\.resources\.memory\.swappiness: cgroup v2 has no such limit"
    with pytest.raises(TemplateFailed, match=words):
        stage.template(config("true", linux={"resources": resources}))
