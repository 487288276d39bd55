"""config-linux.md, "Control groups": the path, and each limit as the kernel has it."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conformance.bundle import Bundle, cgroup_mounts, cgroup_of

pytestmark = pytest.mark.root

MIB = 1 << 20
V2 = "memory" not in cgroup_mounts()


class Limit(NamedTuple):
    """What is asked for, and the file and text that come of it on both versions; None where one has no such thing."""

    section: str
    asked: dict[str, Any]
    v1: tuple[str, str] | None
    v2: tuple[str, str] | None


LIMITS = {
    "memory.limit": Limit(
        "memory", {"limit": 64 * MIB}, ("memory.limit_in_bytes", str(64 * MIB)), ("memory.max", str(64 * MIB))
    ),
    "memory.unlimited": Limit(
        "memory", {"limit": -1}, ("memory.limit_in_bytes", "9223372036854771712"), ("memory.max", "max")
    ),
    "memory.reservation": Limit(
        "memory",
        {"reservation": 32 * MIB},
        ("memory.soft_limit_in_bytes", str(32 * MIB)),
        ("memory.low", str(32 * MIB)),
    ),
    "memory.swap": Limit(
        "memory",
        {"limit": 64 * MIB, "swap": 96 * MIB},
        ("memory.memsw.limit_in_bytes", str(96 * MIB)),
        ("memory.swap.max", str(32 * MIB)),
    ),
    "memory.swappiness": Limit("memory", {"swappiness": 7}, ("memory.swappiness", "7"), None),
    "memory.disableOOMKiller": Limit(
        "memory", {"limit": 64 * MIB, "disableOOMKiller": True}, ("memory.oom_control", "oom_kill_disable 1"), None
    ),
    "cpu.shares": Limit("cpu", {"shares": 2048}, ("cpu.shares", "2048"), ("cpu.weight", "")),
    "cpu.quota": Limit(
        "cpu", {"quota": 20000, "period": 50000}, ("cpu.cfs_quota_us", "20000"), ("cpu.max", "20000 50000")
    ),
    "cpu.period": Limit(
        "cpu", {"quota": 20000, "period": 50000}, ("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000")
    ),
    "cpu.burst": Limit(
        "cpu",
        {"quota": 20000, "period": 50000, "burst": 10000},
        ("cpu.cfs_burst_us", "10000"),
        ("cpu.max.burst", "10000"),
    ),
    "cpu.idle": Limit("cpu", {"idle": 1}, ("cpu.idle", "1"), ("cpu.idle", "1")),
    "cpu.cpus": Limit("cpu", {"cpus": "0"}, ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    "cpu.mems": Limit("cpu", {"mems": "0"}, ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    "pids.limit": Limit("pids", {"limit": 32}, ("pids.max", "32"), ("pids.max", "32")),
    "pids.unlimited": Limit("pids", {"limit": -1}, ("pids.max", "max"), ("pids.max", "max")),
    "blockIO.weight": Limit("blockIO", {"weight": 100}, ("blkio.weight", "100"), ("io.weight", "default 910")),
}


def ask(bundle: Bundle, section: str, asked: object) -> None:
    bundle.linux.setdefault("resources", {})[section] = asked


def directory(bundle: Bundle, file: str) -> Path:
    """The container's cgroup in the hierarchy that has the file."""
    pid = bundle.does("pause").started().state()["pid"]
    controller = {"io": "blkio"}.get(file.split(".")[0], file.split(".")[0])
    return cgroup_of(pid, "" if V2 else controller)


@pytest.mark.parametrize("name", LIMITS)
def test_limits(bundle: Bundle, name: str) -> None:
    """config-linux.md, Memory, CPU, PIDs, Block IO: each property is what the kernel's file says."""
    limit = LIMITS[name]
    expected = limit.v2 if V2 else limit.v1
    if expected is None:
        pytest.skip("cgroup v2 has no such thing")
    file, text = expected
    if not V2 and not list(cgroup_mounts()[{"blkio": "blkio"}.get(file.split(".")[0], file.split(".")[0])].glob(file)):
        some = "cpu" if limit.section == "cpu" and not file.startswith("cpuset") else file.split(".")[0]
        made = cgroup_mounts()[some] / f"asyncrt-conformance-probe-{os.getpid()}"
        made.mkdir()
        there = (made / file).exists()
        made.rmdir()
        if not there:
            pytest.skip(f"this kernel has no {file}")
    ask(bundle, limit.section, limit.asked)
    seen = (directory(bundle, file) / file).read_text()
    assert text in seen.splitlines() or (name == "cpu.shares" and V2 and int(seen) > 39), seen


def test_pids_limit_is_kept(bundle: Bundle) -> None:
    """config-linux.md, PIDs, limit: the maximum number of tasks in the cgroup."""
    ask(bundle, "pids", {"limit": 8})
    assert 0 < int(bundle.does("fork", "20").report()["fork 20"]) < 8


def test_pids_limit_of_nothing(bundle: Bundle) -> None:
    """config-linux.md, PIDs, limit: 0 is a valid limit and SHOULD be treated as such."""
    ask(bundle, "pids", {"limit": 0})
    assert bundle.does("fork", "1").report()["fork 1"] == "0"


def a_disk() -> str | None:
    """MAJOR:MINOR of a block device that throttles can be told of."""
    for place in sorted(Path("/sys/block").iterdir()):
        if (place / "queue").exists() and int((place / "size").read_text()):
            return (place / "dev").read_text().strip()
    return None


@pytest.mark.parametrize(
    ("name", "v1", "v2"),
    [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
    ],
)
def test_throttles(bundle: Bundle, name: str, v1: str, v2: str) -> None:
    """config-linux.md, Block IO: rate limits per device."""
    disk = a_disk()
    if disk is None:
        pytest.skip("this machine has no block device")
    major, minor = map(int, disk.split(":"))
    ask(bundle, "blockIO", {name: [{"major": major, "minor": minor, "rate": 1048576}]})
    if V2:
        assert f"{v2}=1048576" in (directory(bundle, "io.max") / "io.max").read_text()
    else:
        assert f"{disk} 1048576" in (directory(bundle, v1) / v1).read_text().splitlines()


def test_absolute_path(bundle: Bundle) -> None:
    """config-linux.md, Cgroups Path: relative to the cgroups mount point."""
    place = directory(bundle, "pids.max")
    assert str(place).endswith(bundle.linux["cgroupsPath"])


def test_the_same_place_again(bundle: Bundle) -> None:
    """config-linux.md, Cgroups Path: consistently the same place, given the same value."""
    bundle.linux["cgroupsPath"] = bundle.linux["cgroupsPath"].lstrip("/")
    places = []
    for _ in range(2):
        container = bundle.does("pause").started()
        places.append(cgroup_of(container.state()["pid"], "" if V2 else "pids"))
        container.delete("--force").ok()
    assert places[0] == places[1]
    assert places[0].name == bundle.path.name


def test_no_path(bundle: Bundle) -> None:
    """config-linux.md, Cgroups Path: the default is the runtime's to define; the container has a cgroup of its own."""
    del bundle.linux["cgroupsPath"]
    container = bundle.does("pause").started()
    place = cgroup_of(container.state()["pid"], "" if V2 else "pids")
    assert place != cgroup_of(os.getpid(), "" if V2 else "pids")
    container.delete("--force").ok()
    assert not place.exists()


def test_a_limit_that_the_kernel_refuses(bundle: Bundle) -> None:
    """runtime.md, Create: a property that cannot be applied MUST be an error, and nothing is left."""
    ask(bundle, "cpu", {"cpus": "4000-4001"})
    bundle.refused()
    assert not [place for place in cgroup_mounts().values() if (place / bundle.linux["cgroupsPath"][1:]).exists()]


@pytest.mark.parametrize(
    ("section", "asked", "controller"),
    [
        ("hugepageLimits", [{"pageSize": "3MB", "limit": 3 * MIB}], "no page size of any kernel"),
        ("network", {"classID": 1048577}, "net_cls"),
        ("network", {"priorities": [{"name": "lo", "priority": 1}]}, "net_prio"),
        ("rdma", {"nosuch0": {"hcaHandles": 3}}, "rdma"),
    ],
    ids=["hugepageLimits", "classID", "priorities", "rdma"],
)
def test_what_the_kernel_lacks_is_an_error(bundle: Bundle, section: str, asked: object, controller: str) -> None:
    """runtime.md, Create: if a property cannot be applied, an error MUST be generated."""
    if controller in cgroup_mounts():
        pytest.skip(f"this machine has {controller}")
    ask(bundle, section, asked)
    bundle.refused()


def test_unified(bundle: Bundle) -> None:
    """config-linux.md, Unified: written to the file as it stands; on v1 it cannot be converted, which is an error."""
    ask(bundle, "unified", {"memory.high": str(48 * MIB)})
    if V2:
        assert (directory(bundle, "memory.high") / "memory.high").read_text().strip() == str(48 * MIB)
    else:
        bundle.refused()


def test_unified_of_no_controller(bundle: Bundle) -> None:
    """config-linux.md, Unified: a controller that is not present MUST be an error."""
    ask(bundle, "unified", {"nosuch.max": "1"})
    bundle.refused()


def test_the_cgroup_mount(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, cgroup: what is mounted is the container's own part."""
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro")
    ask(bundle, "pids", {"limit": 33})
    file = "/sys/fs/cgroup/pids.max" if V2 else "/sys/fs/cgroup/pids/pids.max"
    facts = bundle.does("cat", file, ",", "write", file, "44").report()
    assert facts[f"cat {file}"] == "33\\n"
    assert facts[f"write {file}"] == "EROFS"


def test_joined_by_exec(bundle: Bundle) -> None:
    """config-linux.md, Cgroups Path: a new process runs in the container's."""
    container = bundle.does("pause").started()
    inside = bundle.runtime("exec", container.id, "/witness", "cat", "/proc/self/cgroup").ok().out
    name = "" if V2 else "pids"
    wanted = [line for line in inside.replace("\\n", "\n").splitlines() if f":{name}:" in line]
    assert wanted
    assert wanted[0].endswith(":/")
