"""Limits, read from outside in the cgroup files."""

from pathlib import Path

import pytest

from shimd.linux.cgroups import Hierarchy
from tests.shimd.configs import config, shell
from tests.shimd.stage import Container, Stage, StartFailed, TemplateFailed

pytestmark = pytest.mark.root


def limit(stage: Stage, container: Container, v1: tuple[str, str], v2: str) -> str:
    """The text of a limit's file: (controller, file) of v1, or the file of v2."""
    trees: list[Hierarchy] = stage.hierarchies
    if trees[0].version == 2:
        return Path(trees[0].mount + container.cgroup, v2).read_text().strip()
    [mount] = [tree.mount for tree in trees if v1[0] in tree.controllers]
    return Path(mount + container.cgroup, v1[1]).read_text().strip()


def test_limits_stand_in_the_files(stage: Stage) -> None:
    resources = {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 17},
    }
    box = stage.start(config("sleep", "60", linux={"resources": resources}))
    v1 = stage.hierarchies[0].version == 1
    assert limit(stage, box, ("memory", "memory.limit_in_bytes"), "memory.max") == str(64 << 20)
    assert limit(stage, box, ("memory", "memory.soft_limit_in_bytes"), "memory.low") == str(32 << 20)
    assert limit(stage, box, ("pids", "pids.max"), "pids.max") == "17"
    assert limit(stage, box, ("cpuset", "cpuset.cpus"), "cpuset.cpus") == "0"
    if v1:
        assert limit(stage, box, ("cpu", "cpu.shares"), "") == "512"
        assert limit(stage, box, ("cpu", "cpu.cfs_quota_us"), "") == "25000"
        assert limit(stage, box, ("cpu", "cpu.cfs_period_us"), "") == "50000"
    else:
        assert limit(stage, box, ("", ""), "cpu.weight") == "20"
        assert limit(stage, box, ("", ""), "cpu.max") == "25000 50000"
    assert stage.hierarchies  # and init is in each of them
    with open(f"/proc/{box.pid}/cgroup") as file:
        mine = [line for line in file if line.strip().endswith(box.cgroup)]
    assert len(mine) == (7 if v1 else 1)


def test_no_limit_is_no_limit(stage: Stage) -> None:
    box = stage.start(config("sleep", "60", linux={"resources": {"pids": {"limit": -1}, "memory": {"limit": -1}}}))
    assert limit(stage, box, ("pids", "pids.max"), "pids.max") == "max"


def test_a_fork_bomb_meets_its_limit(stage: Stage) -> None:
    script = "for n in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done 2>/dev/null; echo through"
    box = stage.run(shell(script, linux={"resources": {"pids": {"limit": 4}}}))
    assert b"through" not in box.log("stdout")


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"cpu": {"cpus": "4000"}}, r"set limit cpuset\.cpus=4000: "),
        ({"cpu": {"quota": 10, "period": 100000}}, "set limit cpu.*: invalid argument"),
        ({"cpu": {"period": 1}}, "set limit cpu.*: invalid argument"),
        ({"memory": {"limit": 64 << 20, "swap": 128 << 20}}, r"set limit memory\.memsw"),
    ],
)
def test_a_limit_that_the_kernel_refuses_is_named(stage: Stage, resources: dict[str, object], words: str) -> None:
    if "memsw" in words and swap_is_counted(stage):
        pytest.skip("this machine accounts for swap")
    with pytest.raises(StartFailed, match=words):
        stage.start(config("true", linux={"resources": resources}))
    assert stage.left_of(stage.containers[-1]) == []


def swap_is_counted(stage: Stage) -> bool:
    """v2 names swap's file otherwise, and refuses nothing here."""
    mounts = [tree.mount for tree in stage.hierarchies if "memory" in tree.controllers]
    return stage.hierarchies[0].version == 2 or Path(mounts[0], "memory.memsw.limit_in_bytes").exists()


@pytest.mark.parametrize(
    ("resources", "path"),
    [
        ({"cpu": {"realtimeRuntime": 1}}, "cpu"),
        ({"cpu": {"burst": 1}}, "cpu"),
        ({"cpu": {"idle": 1}}, "cpu"),
        ({"memory": {"swappiness": 3}}, "memory"),
        ({"memory": {"disableOOMKiller": True}}, "memory"),
        ({"memory": {"kernel": 1 << 20}}, "memory"),
        ({"blockIO": {"weight": 10}}, "blockIO"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "hugepageLimits"),
        ({"network": {"classID": 1}}, "network"),
        ({"rdma": {"mlx": {"hcaHandles": 1}}}, "rdma"),
        ({"unified": {"memory.high": "1"}}, "unified"),
        ({"devices": [{"allow": False, "access": "rwm"}]}, "devices"),
    ],
)
def test_a_limit_that_is_not_built_is_refused_by_name(stage: Stage, resources: dict[str, object], path: str) -> None:
    with pytest.raises(TemplateFailed, match=rf"plan \$\.linux\.resources\.{path}.*not built yet"):
        stage.template(config("true", linux={"resources": resources}))
