"""Namespaces: new, joined, left out."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.shimd.configs import MOUNTS, NAMESPACES, config, maps, process_of, shell
from tests.shimd.line import gone, read_all, until
from tests.shimd.stage import Stage, StartFailed, opened

pytestmark = pytest.mark.root
KINDS = {"mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


def inodes(pid: int | str) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{file}") for kind, file in KINDS.items()}


def test_the_usual_ones_are_new(stage: Stage) -> None:
    first, second = (inodes(stage.start(config("sleep", "60")).pid) for _ in range(2))
    outside = inodes("self")
    for kind in KINDS:
        assert len({first[kind], second[kind], outside[kind]}) == 3, kind


def test_those_that_are_not_listed_are_the_machines(stage: Stage) -> None:
    pid = stage.start(config("sleep", "60", namespaces=["mount"], mounts=[MOUNTS[0]])).pid
    assert {kind: inode for kind, inode in inodes(pid).items() if kind != "mount"} == {
        kind: inode for kind, inode in inodes("self").items() if kind != "mount"
    }


def test_hostname(stage: Stage) -> None:
    document = config("hostname", hostname="box", domainname="yard")
    assert stage.output(document, hostname="") == "box\n"
    assert stage.output(document, hostname="own") == "own\n"
    assert stage.output(config("cat", "/proc/sys/kernel/domainname", hostname="b", domainname="yard")) == "yard\n"


def test_loopback_is_up(stage: Stage) -> None:
    assert stage.output(config("cat", "/sys/class/net/lo/operstate")) == "unknown\n"
    assert int(stage.output(config("cat", "/sys/class/net/lo/flags")), 16) & 1


def test_sysctls(stage: Stage) -> None:
    wanted = {
        "net.ipv4.ip_forward": "1",
        "net/ipv4/ip_default_ttl": "33",
        "net.ipv4.conf.lo.forwarding": "0",
        "kernel.msgmax": "4242",
    }
    paths = ["net/ipv4/ip_forward", "net/ipv4/ip_default_ttl", "kernel/msgmax"]
    said = stage.output(config("cat", *(f"/proc/sys/{path}" for path in paths), linux={"sysctl": wanted}))
    assert said.split() == ["1", "33", "4242"]


def test_a_sysctl_that_is_not_there(stage: Stage) -> None:
    with pytest.raises(StartFailed, match=r"set sysctl net\.ipv4\.nonsense=1: no such file"):
        stage.start(config("true", linux={"sysctl": {"net.ipv4.nonsense": "1"}}))


def test_without_a_pid_namespace_all_of_it_ends_with_init(stage: Stage) -> None:
    plain = [kind for kind in NAMESPACES if kind != "pid"]
    container = stage.start(shell("sleep 60 & setsid sleep 61 & echo $!; exec sleep 62", namespaces=plain))
    assert until(lambda: container.log("stdout"))
    left = int(container.log("stdout"))
    container.kill()
    record = container.ended().record
    assert record.signal == 9
    assert gone(left)
    assert container.gone() == []
    assert stage.left_of(container) == []


def test_the_shim_reaps_orphans_of_a_container_without_pids_of_its_own(stage: Stage) -> None:
    plain = [kind for kind in NAMESPACES if kind != "pid"]
    container = stage.start(shell("(sleep 0.1 & ) ; sleep 60", namespaces=plain))
    shim = container.shim_pid
    children = Path(f"/proc/{shim}/task/{shim}/children")
    # The orphan came to the shim, ended and is buried, though nobody spoke to the shim meanwhile.
    assert until(lambda: len(children.read_text().split()) == 2)
    assert until(lambda: children.read_text().split() == [str(container.pid)], timeout=2)


def joined(**paths: str) -> list[Any]:
    return [{"type": kind, "path": paths[kind]} if kind in paths else kind for kind in NAMESPACES]


def test_a_network_namespace_by_path(stage: Stage) -> None:
    """By the path of a process, as the engine's own pool would give it: it stays when the container went."""
    owner = stage.start(config("sleep", "60"))
    path = f"/proc/{owner.pid}/ns/net"
    guest = stage.start(config("sleep", "60", namespaces=joined(network=path)))
    assert inodes(guest.pid)["network"] == inodes(owner.pid)["network"]
    out, _ = guest.exec("e", process_of("readlink", "/proc/self/ns/net"))
    assert read_all(out).decode().strip() == inodes(owner.pid)["network"]
    guest.kill()
    guest.ended()
    assert owner.query().state == "running"


def test_a_mounted_network_namespace(rootfs: Path, tmp_path: Path) -> None:
    """As `ip netns add` does it: a bind of the namespace on a file, which the zygote has to be told to keep."""
    named, late = tmp_path / "named", tmp_path / "late"
    with mounted_netns(named) as inode, opened(rootfs, [named]) as stage:
        container = stage.start(config("sleep", "60", namespaces=joined(network=str(named))))
        assert inodes(container.pid)["network"] == inode
        with mounted_netns(late):
            # The zygote copied the mounts before: there it is an empty file, and that is told.
            with pytest.raises(StartFailed, match=f"open network namespace {late}: it is no network namespace here"):
                stage.start(config("true", namespaces=joined(network=str(late))))


@contextmanager
def mounted_netns(path: Path) -> Iterator[str]:
    path.touch()
    script = f"mount --bind /proc/self/ns/net {path}; readlink /proc/self/ns/net"
    # The mount is made outside of the new namespace's user: unshare stays in this mount namespace.
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], check=True, capture_output=True, text=True)
    try:
        yield done.stdout.strip()
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_pod(stage: Stage) -> None:
    """Network, ipc, uts and pid of another container, as Kubernetes shares them."""
    owner = stage.start(config("sleep", "60", hostname="pod"), hostname="")
    paths = {kind: f"/proc/{owner.pid}/ns/{KINDS[kind]}" for kind in ("network", "ipc", "uts", "pid")}
    guest = stage.start(config("sh", "-c", "hostname; sleep 60", namespaces=joined(**paths)))
    theirs, ours = inodes(guest.pid), inodes(owner.pid)
    assert {kind: theirs[kind] for kind in paths} == {kind: ours[kind] for kind in paths}
    assert until(lambda: guest.log("stdout") == b"pod\n")
    out, _ = guest.exec("e", process_of("sh", "-c", "readlink /proc/self/ns/pid; readlink /proc/1/ns/uts"))
    assert read_all(out).decode().split() == [ours["pid"], ours["uts"]]
    guest.kill()
    assert guest.ended().record.signal == 9
    assert owner.query().state == "running"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/ns", "open network namespace /no/such/ns: no such file"),
        ("/etc/passwd", "open network namespace .*: it is no network namespace here"),
        ("/proc/self/ns/uts", "open network namespace .*: it is no network namespace here"),
    ],
)
def test_a_path_that_is_no_such_namespace(stage: Stage, path: str, words: str) -> None:
    with pytest.raises(StartFailed, match=words):
        stage.start(config("true", namespaces=joined(network=path)))


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
def test_a_time_namespace(stage: Stage) -> None:
    day = 86400
    document = config(
        *("cat", "/proc/uptime"),
        namespaces=[*NAMESPACES, "time"],
        linux={"timeOffsets": {"boottime": {"secs": 100 * day}, "monotonic": {"secs": 100 * day, "nanosecs": 5}}},
    )
    assert float(stage.output(document).split()[0]) > 100 * day


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
@pytest.mark.parametrize("secs", [100 * 86400, -10])
def test_the_timeline_is_the_machines_in_a_time_namespace_too(stage: Stage, secs: int) -> None:
    document = config(
        "sleep", "60", namespaces=[*NAMESPACES, "time"], linux={"timeOffsets": {"monotonic": {"secs": secs}}}
    )
    container = stage.start(document)
    stamps = [stamp for _, stamp in container.started().timeline]
    assert stamps == sorted(stamps)
    assert stamps[-1] - stamps[0] < 10 * 10**9
    out, _ = container.exec("e", process_of("readlink", "/proc/self/ns/time"))
    assert read_all(out).decode().strip() == os.readlink(f"/proc/{container.pid}/ns/time")


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
def test_a_time_namespace_by_path(stage: Stage) -> None:
    offsets = {"boottime": {"secs": 50 * 86400}}
    owner = stage.start(config("sleep", "60", namespaces=[*NAMESPACES, "time"], linux={"timeOffsets": offsets}))
    path = f"/proc/{owner.pid}/ns/time"
    guest = config("cat", "/proc/uptime", namespaces=[*NAMESPACES, {"type": "time", "path": path}])
    assert float(stage.output(guest).split()[0]) > 50 * 86400


@pytest.mark.skipif(not Path("/proc/self/ns/time").exists(), reason="this kernel has no time namespaces")
def test_a_time_namespace_beside_a_user_namespace(stage: Stage) -> None:
    linux = {**maps(100000), "timeOffsets": {"boottime": {"secs": 50 * 86400}}}
    document = config("cat", "/proc/uptime", namespaces=[*NAMESPACES, "time", "user"], linux=linux)
    assert float(stage.output(document, owner=100000).split()[0]) > 50 * 86400


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("network", {"linux": {"sysctl": {"net.ipv4.ip_default_ttl": "33"}}}),
        ("ipc", {"linux": {"sysctl": {"kernel.msgmax": "4242"}}}),
        ("uts", {"hostname": "box"}),
        ("uts", {"domainname": "yard"}),
    ],
)
def test_what_would_change_the_machine(stage: Stage, kind: str, changes: dict[str, Any]) -> None:
    """By a path the machine's own namespace can be meant; what the config sets would be set there."""
    path = f"/proc/self/ns/{KINDS[kind]}"
    seen = [Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ip_default_ttl", "kernel/msgmax")]
    names = os.uname()
    with pytest.raises(StartFailed, match=f"open {kind} namespace {path}: it is the runtime's own"):
        stage.start(config("true", namespaces=joined(**{kind: path}), **changes))
    assert [Path(f"/proc/sys/{name}").read_text() for name in ("net/ipv4/ip_default_ttl", "kernel/msgmax")] == seen
    assert os.uname() == names
    # Joined alone it changes nothing, and is what `--network host` may be written as.
    mounts = [mount for mount in MOUNTS if kind != "network" or mount["type"] != "sysfs"]
    stage.output(config("true", namespaces=joined(**{kind: path}), mounts=mounts))


def test_a_sysctl_and_a_name_in_a_namespace_of_another(stage: Stage) -> None:
    owner = stage.start(config("sleep", "60"))
    paths = {kind: f"/proc/{owner.pid}/ns/{KINDS[kind]}" for kind in ("network", "uts")}
    linux = {"sysctl": {"net.ipv4.ip_default_ttl": "33"}}
    document = config("hostname", namespaces=joined(**paths), linux=linux, hostname="joined")
    assert stage.output(document) == "joined\n"
    assert owner.run_inside("cat", "/proc/sys/net/ipv4/ip_default_ttl") == "33\n"
