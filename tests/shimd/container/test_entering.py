"""An exec into a container that manages cgroups of its own (v2)."""

import pytest

from shimd.wire.messages import ExecFailed
from tests.shimd.configs import MOUNTS, config, process_of, shell
from tests.shimd.line import read_all, until
from tests.shimd.stage import Container, Stage

pytestmark = pytest.mark.root

WRITABLE = [
    {**mount, "options": ["nosuid", "noexec", "nodev"]} if mount["type"] == "cgroup" else mount for mount in MOUNTS
]
# As systemd in a container does: itself into a cgroup below, whose parent then hands on controllers.
MANAGER = """
cd /sys/fs/cgroup
mkdir init other
echo 0 > init/cgroup.procs
echo +memory > cgroup.subtree_control && echo ready
exec sleep 60
"""


def test_its_cgroup_is_its_users(stage: Stage) -> None:
    """config-linux.md, "Cgroup ownership": who has a writable cgroup file system may manage what is below."""
    if stage.hierarchies[0].version == 1:
        pytest.skip("this machine has cgroup v1")
    script = (
        "cd /sys/fs/cgroup && mkdir below && echo 0 > below/cgroup.procs && cat /proc/self/cgroup; echo 1 > pids.max"
    )
    box = stage.run(shell(script, mounts=WRITABLE, process={"user": {"uid": 1000, "gid": 1000}}))
    assert box.log("stdout") == b"0::/below\n", box.log("stderr")
    assert b"pids.max: Permission denied" in box.log("stderr")


@pytest.fixture
def manager(stage: Stage) -> Container:
    if stage.hierarchies[0].version == 1:
        pytest.skip("this machine has cgroup v1")
    box = stage.start(shell(MANAGER, mounts=WRITABLE))
    assert until(lambda: box.log("stdout") == b"ready\n")
    return box


def test_an_exec_goes_where_init_is(manager: Container) -> None:
    """The container's own cgroup takes no process any more."""
    assert manager.run_inside("cat", "/proc/self/cgroup") == "0::/init\n"
    assert manager.run_inside("cat", "/proc/self/cgroup") == "0::/init\n"


def test_it_ends_with_the_container(manager: Container, stage: Stage) -> None:
    manager.exec("sleeper", process_of("sleep", "60"))
    manager.kill()
    manager.ended()
    assert until(lambda: stage.left_of(manager) == [])


def test_an_init_that_is_elsewhere_is_not_followed(manager: Container, stage: Stage) -> None:
    """Somebody on the machine moved it out of the container's cgroup: an exec would leave its limits."""
    other = stage.start(config("sleep", "60"))
    place = f"{stage.hierarchies[0].mount}{other.cgroup}/cgroup.procs"
    with open(place, "w") as file:
        file.write(str(manager.pid))
    out, _ = manager.exec("stray", process_of("true"))
    assert read_all(out) == b""
    assert "busy" in str(manager.expect(ExecFailed).trouble)
    manager.kill()  # before the other's cgroup is removed
    manager.ended()
