"""Changed limits for a container that runs: raised, lowered, in whichever order they are asked for."""

from collections.abc import Callable
from typing import Any

import pytest

from shimd.container.updating import update
from shimd.errors import RuntimeTrouble
from shimd.linux import cgroups
from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import Resources
from shimd.spec.validate import load
from tests.shimd.configs import config, shell
from tests.shimd.line import until
from tests.shimd.stage import Container, Stage

pytestmark = pytest.mark.root
MIB = 1 << 20
Change = Callable[..., None]
LIMITS = {"memory": {"limit": 64 * MIB}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 50}}


@pytest.fixture
def box(stage: Stage) -> Container:
    return stage.start(config("sleep", "60", linux={"resources": LIMITS}))


def change(stage: Stage, box: Container, **resources: Any) -> None:
    """As `update` does; the trees are those of the container's plan."""
    trees = [tree for tree in stage.hierarchies if _exists(tree, box)]
    update(_read(resources), trees, box.cgroup)


def _read(resources: dict[str, Any]) -> Resources:
    return load(config("sh", linux={"resources": resources})).linux.resources


def _exists(tree: Hierarchy, box: Container) -> bool:
    return bool(cgroups.names(tree.mount + box.cgroup))


def text(stage: Stage, box: Container, v1: str, v2: str) -> str:
    """The text of one of the two files, whichever is here."""
    name = v2 if stage.hierarchies[0].version == 2 else v1
    controller = name.partition(".")[0]
    [mount] = [tree.mount for tree in stage.hierarchies if tree.version == 2 or controller in tree.controllers]
    return cgroups.read(mount + box.cgroup, name).strip()


def memory(stage: Stage, box: Container) -> tuple[str, str]:
    limit = text(stage, box, "memory.limit_in_bytes", "memory.max")
    return limit, text(stage, box, "memory.memsw.limit_in_bytes", "memory.swap.max")


def cpu(stage: Stage, box: Container) -> str:
    if stage.hierarchies[0].version == 2:
        return f"{text(stage, box, '', 'cpu.max')} {text(stage, box, '', 'cpu.max.burst')}"
    return " ".join(text(stage, box, f"cpu.cfs_{word}_us", "") for word in ("quota", "period", "burst"))


def test_memory_and_swap_up_and_down(stage: Stage, box: Container) -> None:
    """v1 has no memory above memory and swap: which of them goes first depends on the way."""
    v1 = stage.hierarchies[0].version == 1
    for limit, swap in ((64, 64), (96, 160), (32, 32), (200, 200), (20, 400), (300, 500)):
        change(stage, box, memory={"limit": limit * MIB, "swap": swap * MIB})
        assert memory(stage, box) == (str(limit * MIB), str((swap if v1 else swap - limit) * MIB))
    change(stage, box, memory={"limit": -1})
    no_limit = ("9223372036854771712", "9223372036854771712") if v1 else ("max", "max")
    assert memory(stage, box) == no_limit


def test_swap_alone_is_reckoned_with_the_limit_that_is_there(stage: Stage, box: Container) -> None:
    change(stage, box, memory={"swap": 100 * MIB})
    v1 = stage.hierarchies[0].version == 1
    assert memory(stage, box) == (str(64 * MIB), str((100 if v1 else 36) * MIB))
    with pytest.raises(RuntimeTrouble):
        change(stage, box, memory={"swap": 32 * MIB})
    assert memory(stage, box) == (str(64 * MIB), str((100 if v1 else 36) * MIB))


def test_quota_period_and_burst_up_and_down(stage: Stage, box: Container) -> None:
    """No burst is above its quota: raising needs the quota first, lowering the burst."""
    for quota, period, burst in ((50000, 100000, 50000), (200000, 200000, 200000), (10000, 20000, 10000)):
        change(stage, box, cpu={"quota": quota, "period": period, "burst": burst})
        assert cpu(stage, box) == f"{quota} {period} {burst}"


def test_what_is_not_asked_for_stays(stage: Stage, box: Container) -> None:
    change(stage, box, pids={"limit": 20})
    assert text(stage, box, "pids.max", "pids.max") == "20"
    assert memory(stage, box)[0] == str(64 * MIB)
    assert cpu(stage, box) == "50000 100000 0"
    change(stage, box, cpu={"quota": -1})
    assert cpu(stage, box).split()[0] in ("-1", "max")
    change(stage, box)


def test_a_change_that_fails_is_taken_back(stage: Stage, box: Container) -> None:
    before = memory(stage, box)
    with pytest.raises(RuntimeTrouble, match=r"set limit cpu.*: invalid argument"):
        change(stage, box, memory={"limit": 32 * MIB}, cpu={"quota": 1}, pids={"limit": 3})
    assert memory(stage, box) == before
    assert text(stage, box, "pids.max", "pids.max") == "50"
    assert cpu(stage, box) == "50000 100000 0"


def test_no_limit_below_what_is_used(stage: Stage) -> None:
    script = "head -c 33554432 /dev/zero > /dev/shm/it; echo full; sleep 60"
    box = stage.start(shell(script, linux={"resources": {"memory": {"limit": 100 * MIB}}}))
    assert until(lambda: box.log("stdout") == b"full\n")
    for name in ("limit", "swap"):
        wish = {"limit": 100 * MIB, "swap": 100 * MIB} if name == "swap" else {}
        wish = {**wish, name: 8 * MIB, "limit": 8 * MIB, "checkBeforeUpdate": True}
        with pytest.raises(
            RuntimeTrouble, match=r"update \$\.linux\.resources\.memory\.(limit|swap): 8388608 is not above"
        ):
            change(stage, box, memory=wish)
    assert memory(stage, box)[0] == str(100 * MIB)


def test_v1_says_that_more_is_used(stage: Stage) -> None:
    """Tmpfs cannot be written out where there is no swap; v2 would kill."""
    if stage.hierarchies[0].version == 2:
        pytest.skip("this machine has cgroup v2")
    script = "head -c 33554432 /dev/zero > /dev/shm/it; echo full; sleep 60"
    box = stage.start(shell(script, linux={"resources": {"memory": {"limit": 100 * MIB, "swap": 100 * MIB}}}))
    assert until(lambda: box.log("stdout") == b"full\n")
    with pytest.raises(RuntimeTrouble, match=r"set limit memory.*busy: more than that is used now"):
        change(stage, box, memory={"limit": 8 * MIB, "swap": 8 * MIB})
    assert memory(stage, box) == (str(100 * MIB), str(100 * MIB))


@pytest.mark.busybox
def test_device_rules_are_replaced(stage: Stage, box: Container) -> None:
    script = "mknod /tmp/k c 240 7 2>/dev/null; head -c 0 /tmp/k 2>&1"
    opened, denied = "No such device or address", "Operation not permitted"
    assert opened in box.run_inside("sh", "-c", script)
    change(stage, box, devices=[{"allow": False}])
    assert denied in box.run_inside("sh", "-c", script)
    change(stage, box, devices=[{"allow": False}, {"allow": True, "type": "c", "major": 240, "minor": 7}])
    assert opened in box.run_inside("sh", "-c", script)
    change(stage, box, pids={"limit": 30})
    assert opened in box.run_inside("sh", "-c", script)


def test_a_controller_that_is_not_here(stage: Stage, box: Container) -> None:
    with pytest.raises(
        RuntimeTrouble, match=r"set limit rdma \(this machine mounts no rdma controller\)|no such device"
    ):
        change(stage, box, rdma={"mlx5_1": {"hcaHandles": 3}}, pids={"limit": 3})
    if stage.hierarchies[0].version == 1:  # on v2 the device is what is missing, and said after the write
        assert text(stage, box, "pids.max", "pids.max") == "50"


def test_a_hierarchy_that_it_is_not_in(stage: Stage, box: Container) -> None:
    if stage.hierarchies[0].version == 2:
        change(stage, box, cpu={"cpus": "0"})
        assert text(stage, box, "", "cpuset.cpus") == "0"
        return
    with pytest.raises(RuntimeTrouble, match=r"set limit cpuset.cpus=0: it has no cgroup in .*/cpuset"):
        update(_read({"cpu": {"cpus": "0"}}), stage.hierarchies, box.cgroup)


def test_idle_and_back(stage: Stage, box: Container) -> None:
    for idle, shares in ((1, 300), (0, 500)):
        change(stage, box, cpu={"idle": idle, "shares": shares})
        assert text(stage, box, "cpu.idle", "cpu.idle") == str(idle)
    assert text(stage, box, "cpu.shares", "cpu.weight") in ("500", "58")
