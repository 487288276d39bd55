"""config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace"."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.conformance.bundle import Bundle, until
from tests.conformance.runtime import Room

pytestmark = pytest.mark.root

# the spec's name: the one in /proc/PID/ns, the flag of unshare(1)
TYPES = {
    "pid": ("pid", "--pid"),
    "network": ("net", "--net"),
    "mount": ("mnt", "--mount"),
    "ipc": ("ipc", "--ipc"),
    "uts": ("uts", "--uts"),
    "cgroup": ("cgroup", "--cgroup"),
    "user": ("user", "--user"),
    "time": ("time", "--time"),
}
JOINED = ("network", "ipc", "uts", "cgroup", "time")


@pytest.mark.parametrize("type", TYPES)
def test_new(bundle: Bundle, type: str) -> None:
    """config-linux.md, Namespaces, path: without it, a new one MUST be created."""
    if type == "user":
        bundle.user_namespace()
    file = TYPES[type][0]
    facts = bundle.namespace(type).report()
    assert facts[f"ns {file}"] != bundle.runtime.room.namespace(file)


@pytest.mark.parametrize("type", ["network", "ipc", "cgroup", "user", "time"])
def test_inherited(bundle: Bundle, type: str) -> None:
    """config-linux.md, Namespaces: a type that is not specified is the runtime's own."""
    file = TYPES[type][0]
    if type == "network":  # a new sysfs needs the network namespace's owner, who we are
        bundle.without("/sys")
    assert bundle.without_namespace(type).report()[f"ns {file}"] == bundle.runtime.room.namespace(file)


def test_inherited_uts(bundle: Bundle) -> None:
    """config-linux.md, Namespaces: uts, where no name is asked for."""
    del bundle.config["hostname"]
    assert bundle.without_namespace("uts").report()["ns uts"] == bundle.runtime.room.namespace("uts")


def test_inherited_pid(bundle: Bundle) -> None:
    """config-linux.md, Namespaces: pid."""
    assert bundle.without_namespace("pid").report()["ns pid"] == bundle.runtime.room.namespace("pid")


@pytest.fixture
def other(room: Room) -> Iterator[int]:
    """A process with namespaces of its own, to be joined."""
    flags = [flag for kind, (_, flag) in TYPES.items() if kind in JOINED]
    holder = subprocess.Popen(
        [*room.enter, "unshare", *flags, "--fork", "--kill-child", "sh", "-c", "echo $$; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    yield pid
    holder.communicate()


@pytest.mark.parametrize("type", JOINED)
def test_joined(bundle: Bundle, other: int, type: str) -> None:
    """config-linux.md, Namespaces, path: the container process MUST be placed in that namespace."""
    file = TYPES[type][0]
    if type == "uts":
        del bundle.config["hostname"]
    facts = bundle.namespace(type, path=f"/proc/{other}/ns/{file}").report()
    assert facts[f"ns {file}"] == os.readlink(f"/proc/{other}/ns/{file}")


def test_joined_pid(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, path: pid, which counts for children."""
    first = bundle.does("pause").started()
    pid = first.state()["pid"]
    bundle.linux["cgroupsPath"] += "-second"
    second = bundle.namespace("pid", path=f"/proc/{pid}/ns/pid").does("report").started().ended()
    facts = second.facts()
    assert facts["ns pid"] == os.readlink(f"/proc/{pid}/ns/pid")
    assert facts["pid"] != "1"


def test_joined_user(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, path: user."""
    bundle.user_namespace()
    first = bundle.does("pause").started()
    pid = first.state()["pid"]
    bundle.linux["cgroupsPath"] += "-second"
    for key in ("uidMappings", "gidMappings"):
        del bundle.linux[key]
    bundle.namespace("user", path=f"/proc/{pid}/ns/user").does("report")
    facts = bundle.started().ended().facts()
    assert facts["ns user"] == os.readlink(f"/proc/{pid}/ns/user")


def test_path_of_another_type_is_an_error(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, path: not of this type MUST be an error."""
    bundle.namespace("network", path="/proc/self/ns/ipc").refused()


@pytest.mark.parametrize("path", ["/no/such/namespace", "/etc/hostname"])
def test_path_of_no_namespace_is_an_error(bundle: Bundle, path: str) -> None:
    """config-linux.md, Namespaces, path: not associated with a namespace MUST be an error."""
    bundle.namespace("network", path=path).refused()


def test_path_must_be_absolute(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, path: MUST be an absolute path."""
    bundle.namespace("network", path="proc/self/ns/net").refused()


def test_duplicates_are_errors(bundle: Bundle) -> None:
    """config-linux.md, Namespaces: duplicated types MUST be an error."""
    bundle.linux["namespaces"].append({"type": "ipc"})
    bundle.refused()


def test_unknown_type_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: an invalid value MUST be an error."""
    bundle.namespace("moon").refused()


def test_pid_shows_no_other_process(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, pid: only processes of the container are seen."""
    names = bundle.does("ls", "/proc").report()["ls /proc"].split()
    assert [name for name in names if name.isdigit()] == ["1"]


def test_loopback_only(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, network: a network stack of its own."""
    seen = bundle.does("ls", "/sys/class/net").report()["ls /sys/class/net"].split()
    assert "lo" in seen
    assert "eth0" not in seen


def test_cgroup_is_the_root_of_its_view(bundle: Bundle) -> None:
    """config-linux.md, Namespaces, cgroup: an isolated view of the hierarchy."""
    lines = bundle.report()["cgroup"].split("\\n")
    assert {line.rsplit(":", 1)[1] for line in lines if ":pids:" in line or line.startswith("0::")} == {"/"}


def test_mappings(bundle: Bundle) -> None:
    """config-linux.md, User namespace mappings: containerID, hostID, size."""
    facts = bundle.user_namespace().report()
    assert facts["uid_map"].removesuffix("\\n").split() == ["0", "100000", "65536"]
    assert facts["gid_map"].removesuffix("\\n").split() == ["0", "100000", "65536"]


def test_several_mappings(bundle: Bundle) -> None:
    """config-linux.md, User namespace mappings: an array of them."""
    bundle.user_namespace()
    second = {"containerID": 70000, "hostID": 300000, "size": 10}
    bundle.linux["uidMappings"] = [*bundle.linux["uidMappings"], second]
    assert "70000     300000         10" in bundle.report()["uid_map"]


def test_ids_outside(bundle: Bundle) -> None:
    """config-linux.md, User namespace mappings: the container's root is the mapped user outside."""
    pid = bundle.user_namespace().does("pause").started().state()["pid"]
    assert os.stat(f"/proc/{pid}").st_uid in (0, 100000)
    with open(f"/proc/{pid}/status") as file:
        assert "\nUid:\t100000\t100000\t100000\t100000\n" in file.read()


def test_ownership_is_not_changed(bundle: Bundle) -> None:
    """config-linux.md, User namespace mappings: the runtime SHOULD NOT modify the ownership of file systems."""
    bundle.user_namespace()
    (bundle.rootfs / "etc/roots").touch()
    os.chown(bundle.rootfs / "etc/roots", 0, 0)
    bundle.report()
    assert (bundle.rootfs / "etc/roots").stat().st_uid == 0
    assert (bundle.rootfs / "witness").stat().st_uid == 100000


def test_a_mapping_that_overlaps_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Create: what the kernel does not take MUST be an error."""
    bundle.user_namespace()
    bundle.linux["uidMappings"] = bundle.linux["uidMappings"] * 2
    bundle.refused()


@pytest.mark.parametrize("clock", ["monotonic", "boottime"])
def test_time_offsets(bundle: Bundle, clock: str) -> None:
    """config-linux.md, Offset for Time Namespace: secs and nanosecs of a clock."""
    before = int(bundle.report()[f"clock {clock}"])
    bundle.namespace("time").linux["timeOffsets"] = {clock: {"secs": 100000, "nanosecs": 5}}
    assert 100000 <= int(bundle.report()[f"clock {clock}"]) - before < 100060


def test_unknown_clock_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: a clock that has no offset."""
    bundle.namespace("time").linux["timeOffsets"] = {"realtime": {"secs": 1}}
    bundle.refused()


needs_ip = pytest.mark.skipif(not shutil.which("ip"), reason="ip (package iproute2) makes the links of these tests")


@pytest.fixture
def link(room: Room) -> Iterator[str]:
    """A link in the runtime namespace, with an address; its peer stays there."""
    room.run("ip", "link", "add", "conform0", "type", "veth", "peer", "name", "conform1")
    room.run("ip", "address", "add", "192.0.2.7/24", "dev", "conform0")
    yield "conform0"
    subprocess.run([*room.enter, "ip", "link", "delete", "conform1"], check=False, capture_output=True)


@needs_ip
@pytest.mark.parametrize("name", ["", "inside0"])
def test_net_devices(bundle: Bundle, link: str, name: str) -> None:
    """config-linux.md, Network Devices (1.3): moved in, under its new name, up, with its global addresses."""
    bundle.linux["netDevices"] = {link: {"name": name} if name else {}}
    container = bundle.does("pause").started()
    seen = container.bundle.runtime.room.run(
        *("nsenter", f"--net=/proc/{container.state()['pid']}/ns/net", "ip", "-o", "address", "show")
    )
    line = next(line for line in seen.splitlines() if f" {name or link} " in line and "192.0.2.7/24" in line)
    assert line


@needs_ip
def test_net_device_that_is_not_there(bundle: Bundle) -> None:
    """config-linux.md, Network Devices: the runtime MUST check whether the move is possible."""
    bundle.linux["netDevices"] = {"nosuchlink0": {}}
    bundle.refused()


@needs_ip
def test_net_device_name_that_is_taken(bundle: Bundle, link: str) -> None:
    """config-linux.md, Network Devices: a name that exists in the container MUST be an error."""
    bundle.linux["netDevices"] = {link: {"name": "lo"}}
    bundle.refused()
    until(lambda: link in bundle.runtime.room.run("ip", "-o", "link"), "the link is where it was", 5)
