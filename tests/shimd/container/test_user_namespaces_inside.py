"""User namespaces: new and joined, with other ids than the machine's, beside namespaces of others."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import identity
from shimd.wire.messages import RootMount
from tests.shimd.configs import CAPABILITIES, MOUNTS, NAMESPACES, config, process_of, shell
from tests.shimd.container.test_namespaces_inside import KINDS, inodes, joined
from tests.shimd.direct import Direct, in_a_child
from tests.shimd.line import gone, read_all, until
from tests.shimd.stage import Stage, StartFailed

pytestmark = pytest.mark.root
FIRSTS = [0, 100000]


def user_config(*args: str, first: int, **changes: Any) -> dict[str, Any]:
    linux = changes.pop("linux", {})
    maps = [{"containerID": 0, "hostID": first, "size": 65536}]
    return config(
        *args,
        namespaces=[*NAMESPACES, "user"],
        linux={"uidMappings": maps, "gidMappings": maps, **linux},
        **changes,
    )


@pytest.mark.parametrize("first", FIRSTS)
def test_a_user_namespace(stage: Stage, first: int) -> None:
    script = "id -u; read a b c </proc/self/uid_map; echo $a $b $c; touch /tmp/x; ls /dev; echo x >/dev/null; sleep 60"
    container = stage.start(user_config("sh", "-c", script, first=first), owner=first)
    assert until(lambda: b"zero" in container.log("stdout"))
    said = container.log("stdout").decode().splitlines()
    assert said[:2] == ["0", f"0 {first} 65536"]
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm", "fd"} <= set(said)
    assert os.stat(f"/proc/{container.pid}").st_uid == first
    assert (container.base / "upper/tmp/x").stat().st_uid == first
    out, _ = container.exec("e", process_of("sh", "-c", "id -u; readlink /proc/self/ns/user"))
    assert read_all(out).decode().split() == ["0", os.readlink(f"/proc/{container.pid}/ns/user")]
    assert container.log("stderr") == b""
    with open(f"/proc/{container.pid}/status") as file:
        held = {line.split()[0]: int(line.split()[1], 16) for line in file if line.startswith("Cap")}
    # A new user namespace begins with every capability: none is left over.
    mask = identity.mask(CAPABILITIES)
    assert held == {"CapInh:": 0, "CapPrm:": mask, "CapEff:": mask, "CapBnd:": mask, "CapAmb:": 0}


@pytest.mark.parametrize("first", FIRSTS)
def test_a_user_namespace_with_a_user_sysctls_and_oom_score(stage: Stage, first: int) -> None:
    document = user_config(
        *("sh", "-c", "id -u; cat /proc/sys/net/ipv4/ip_default_ttl /proc/self/oom_score_adj; hostname"),
        first=first,
        process={"user": {"uid": 1000, "gid": 1000}, "oomScoreAdj": 300},
        linux={"sysctl": {"net.ipv4.ip_default_ttl": "33"}},
        hostname="box",
    )
    assert stage.output(document, owner=first, hostname="").split() == ["1000", "33", "300", "box"]


def test_a_user_namespace_without_maps(stage: Stage) -> None:
    """As crun has it: the ids are the machine's, what they may do is the namespace's."""
    container = stage.start(shell("cat /proc/self/uid_map; sleep 60", namespaces=[*NAMESPACES, "user"]))
    assert until(lambda: container.log("stdout"))
    assert container.log("stdout").split() == Path("/proc/self/uid_map").read_bytes().split()
    assert os.readlink(f"/proc/{container.pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_stdio_is_its_own_in_a_user_namespace(stage: Stage) -> None:
    """Not only inherited: opened anew by name, as many a program's configuration does it."""
    for user in (0, 1000):
        process = {"user": {"uid": user, "gid": user}}
        container = stage.run(user_config("sh", "-c", "echo x >/dev/stdout", first=100000, process=process))
        assert container.log("stdout") == b"x\n", container.log("stderr")


@pytest.mark.busybox
def test_volumes_in_a_user_namespace(stage: Stage, tmp_path: Path) -> None:
    """From below directories that are closed to strangers, the same source twice, a file as well."""
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    (closed / "open/file").write_text("volume\n")
    (closed / "open").chmod(0o777)
    closed.chmod(0o700)
    os.chown(closed, 4711, 4711)
    source = str(closed / "open")
    volumes = [
        {"destination": "/tmp/rw", "type": "bind", "source": source, "options": ["rbind"]},
        {"destination": "/tmp/ro", "type": "bind", "source": source, "options": ["rbind", "ro"]},
        {"destination": "/tmp/file", "type": "bind", "source": f"{source}/file", "options": ["bind"]},
    ]
    script = "cat /tmp/rw/file /tmp/ro/file /tmp/file; touch /tmp/rw/new; touch /tmp/ro/never"
    container = stage.run(user_config("sh", "-c", script, first=100000, mounts=[*MOUNTS, *volumes]), owner=100000)
    assert container.log("stdout") == b"volume\n" * 3
    assert b"never: Read-only file system" in container.log("stderr")
    assert (closed / "open/new").stat().st_uid == 100000


def test_a_directory_as_root_in_a_user_namespace(stage: Stage) -> None:
    container = stage.prepare()
    copy = container.base / "copy"
    subprocess.run(["cp", "-a", stage.rootfs, copy], check=True)
    os.chown(copy, 100000, 100000)
    container.base.chmod(0o700)
    stage.spawn(
        container,
        stage.template(user_config("cat", "/etc/hostname", first=100000)),
        root=[RootMount("bind", [str(copy)])],
    )
    container.ended()
    assert container.log("stdout") == b"image\n"


def test_masks_in_a_user_namespace(stage: Stage) -> None:
    script = "head -c 9 /proc/keys | wc -c; ls /sys/firmware | wc -l; touch /sys/firmware/x 2>/dev/null || echo kept"
    document = user_config("sh", "-c", script, first=100000)
    assert stage.output(document, owner=100000).split() == ["0", "0", "kept"]


def user_paths(pid: int, *kinds: str) -> list[Any]:
    names = {**KINDS, "user": "user"}
    return joined(**{kind: f"/proc/{pid}/ns/{names[kind]}" for kind in kinds}) + (
        [{"type": "user", "path": f"/proc/{pid}/ns/user"}] if "user" in kinds else []
    )


@pytest.mark.parametrize("more", [(), ("network", "ipc", "uts"), ("network", "pid"), ("cgroup",)])
def test_a_user_namespace_by_path(stage: Stage, more: tuple[str, ...]) -> None:
    """A pod in a user namespace: what is new belongs to it, pids too; what is shared is joined."""
    owner = stage.start(user_config("sleep", "60", first=100000), owner=100000)
    script = "id -u; head -n 1 /proc/self/uid_map; echo $$; : >/tmp/x; sleep 60"
    guest = stage.start(shell(script, namespaces=user_paths(owner.pid, "user", *more)), owner=100000)
    assert until(lambda: len(guest.log("stdout").split()) == 5)
    said = guest.log("stdout").decode().split()
    assert said[:4] == ["0", "0", "100000", "65536"]
    assert (said[4] == "1") == ("pid" not in more)
    assert os.readlink(f"/proc/{guest.pid}/ns/user") == os.readlink(f"/proc/{owner.pid}/ns/user")
    theirs, ours = inodes(guest.pid), inodes(owner.pid)
    assert {kind for kind in KINDS if theirs[kind] == ours[kind]} == set(more)
    assert (guest.base / "upper/tmp/x").stat().st_uid == 100000
    out, _ = guest.exec("e", process_of("sh", "-c", "id -u; readlink /proc/self/ns/net"))
    assert read_all(out).decode().split() == ["0", theirs["network"]]
    guest.kill()
    assert guest.ended().record.signal == 9
    assert guest.gone() == []
    assert stage.left_of(guest) == []


def test_a_user_namespace_by_path_without_a_shim(stage: Stage, copy: Path) -> None:
    """A command bears init as its own child, and buries the usher itself."""
    owner = stage.start(user_config("sleep", "60", first=100000), owner=100000)

    def deed() -> None:
        namespaces = ["mount", "pid", {"type": "user", "path": f"/proc/{owner.pid}/ns/user"}]
        document = shell(
            "read line; id -u; echo $$; cat /proc/self/uid_map",
            namespaces=namespaces,
            mounts=MOUNTS[:2],
            linux={"maskedPaths": [], "readonlyPaths": []},
        )
        with Direct(document, copy) as container:
            assert container.ask().split() == ["0", "1", "0", "100000", "65536"]
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)

    in_a_child(deed)


def test_a_new_user_namespace_joins_what_is_the_machines(stage: Stage) -> None:
    """The right over another's network namespace ends where the new user namespace begins: it is joined before."""
    owner = stage.start(config("sleep", "60"))
    path = f"/proc/{owner.pid}/ns/net"
    mounts = [
        mount for mount in MOUNTS if mount["type"] not in ("sysfs", "cgroup")
    ]  # its sysfs is the owner's to mount
    document = user_config("sleep", "60", first=100000, mounts=mounts)
    document["linux"]["namespaces"] = [*({"type": kind} for kind in NAMESPACES if kind != "network"), {"type": "user"}]
    document["linux"]["namespaces"].append({"type": "network", "path": path})
    guest = stage.start(document, owner=100000)
    assert inodes(guest.pid)["network"] == inodes(owner.pid)["network"]
    assert os.readlink(f"/proc/{guest.pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_a_user_namespace_that_refuses_is_named(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="open user namespace /etc/passwd: it is no user namespace here"):
        stage.start(config("true", namespaces=[*NAMESPACES, {"type": "user", "path": "/etc/passwd"}]))


def test_a_killed_shim_takes_a_container_in_a_user_namespace_along(stage: Stage) -> None:
    container = stage.start(user_config("sleep", "60", first=0))
    os.kill(container.shim_pid, 9)
    assert gone(container.pid)
