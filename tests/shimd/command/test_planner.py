"""The planner and the front when something is not as usual: deaths at any moment, crowds, strangers, hostile places."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import until
from tests.shimd.command.installed import PLANNERS, Installed, installed, is_built
from tests.shimd.command.runtime import cgroups_of
from tests.shimd.configs import config

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_built(), reason="the front is not built for this machine")]

C = f"asyncrt-oci-{os.getpid()}-planner"
SLEEP = config("sleep", "100")
CROWD = 40
KILLS = 25


@pytest.fixture
def oci(rootfs: Path) -> Iterator[Installed]:
    with installed(rootfs) as made:
        made.warm()
        yield made


def gone(oci: Installed, id: str) -> None:
    """Whatever was begun of it, delete ends."""
    oci("delete", "--force", id)
    assert not (oci.root / id).exists()
    until(lambda: not cgroups_of(id), f"no cgroup of {id} is left")


def inside(words: list[str], *command: str) -> int:
    """A command by way of another that changes where it runs; its exit code."""
    return subprocess.run([*words, *command], stdin=subprocess.DEVNULL, timeout=30, check=False).returncode


def begin(oci: Installed, *words: str) -> subprocess.Popen[bytes]:
    null = subprocess.DEVNULL
    return subprocess.Popen(oci.command(*words), stdin=null, stdout=null, stderr=null)


def test_a_planner_has_nothing_of_its_maker(oci: Installed) -> None:
    (pid,) = oci.planners()
    found = PLANNERS.stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o700, 0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    others = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if int(entry.name) > 2}
    assert len(others) == 4, others  # the directory, the lock, the listener, the mount table
    assert os.getsid(pid) != os.getsid(0)


def test_a_planner_ends_by_itself(oci: Installed) -> None:
    oci.planners()
    begun = time.monotonic()
    until(lambda: not oci.planners(), "the planner ended")
    assert time.monotonic() - begun < 14
    assert not list(PLANNERS.glob(f"*-{oci.front.stat().st_ino}.*"))
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert oci.asked() == ["create"]
    until(oci.planners, "there is another")


def test_a_killed_planner_costs_time_alone(oci: Installed) -> None:
    (pid,) = oci.planners()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not oci.planners(), "it is dead")
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert oci.asked() == ["create"]
    until(oci.planners, "there is another")
    oci.must("delete", "-f", C)
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert oci.asked() == []


def test_a_planner_that_hangs_keeps_nobody_waiting(oci: Installed) -> None:
    (pid,) = oci.planners()
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert 1.5 < time.monotonic() - begun < 10
    assert oci.asked() == ["create"]
    os.kill(pid, signal.SIGCONT)


def test_nobody_keeps_the_planner_waiting(oci: Installed) -> None:
    (path,) = PLANNERS.glob(f"*-{oci.front.stat().st_ino}.sock")
    lines = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    try:
        for line in lines:
            line.connect(str(path))
        lines[0].send(b"nonsense")
        lines[1].send(b"\xff" * 9000)
        oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
        assert oci.asked() == []
    finally:
        for line in lines:
            line.close()


@pytest.mark.parametrize("space", ["--uts", "--ipc", "--net", "--cgroup", "--time"])
def test_another_namespace_is_declined(oci: Installed, space: str) -> None:
    bundle = str(oci.bundle(SLEEP))
    assert inside(["unshare", space], *oci.command("create", "-b", bundle, C)) == 0
    assert oci.asked() == ["create"]
    gone(oci, C)


def test_another_user_or_right_is_declined(oci: Installed) -> None:
    bundle = str(oci.bundle(SLEEP))
    inside(["setpriv", "--bounding-set=-sys_time"], *oci.command("create", "-b", bundle, C))
    assert oci.asked() == ["create"]
    gone(oci, C)
    oci.asked()
    words = [*oci.command("create", "-b", bundle, C)]
    assert inside(["setpriv", "--reuid=1000", "--clear-groups"], *words) != 0
    assert not (oci.root / C).exists()


def test_another_version_is_declined_and_the_planner_goes(oci: Installed) -> None:
    os.utime(oci.front)
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert oci.asked() == ["create"]
    until(lambda: not oci.planners(), "the old planner left")


@pytest.mark.parametrize("how", ["chown 1000", "chmod 0777"])
def test_a_directory_that_somebody_else_can_use_is_not_used(oci: Installed, how: str) -> None:
    """In mounts of its own, with a /run of its own."""
    words = " ".join(oci.command("create", "-b", str(oci.bundle(SLEEP)), C))
    script = f"mount -t tmpfs none /run && mkdir -m 700 {PLANNERS} && {how} {PLANNERS} && {words}"
    assert inside(["unshare", "--mount", "--propagation", "private", "sh", "-c"], script) == 0
    assert oci.asked() == ["create"]
    assert len(oci.planners()) == 1
    gone(oci, C)


@pytest.mark.parametrize("room", range(2, 8))
def test_a_full_disk_has_the_references_words(oci: Installed, room: int) -> None:
    """ROOT on a file system with so many inodes: whichever file has no room, nothing is left."""
    place = oci.folder / "full"
    place.mkdir()
    state = place / "state"
    words = [str(oci.front), "--root", str(state), "create", "-b", str(oci.bundle(SLEEP)), C]
    script = f"mount -t tmpfs -o nr_inodes={room} none {place} && mkdir {state}; {' '.join(words)}; c=$?; ls -A {state}"
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{script}; exit $c"]
    done = subprocess.run(enter, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert done.stdout == ""
    assert not cgroups_of(C)


def test_killed_at_any_moment(oci: Installed) -> None:
    """Whatever moment the front is killed at: delete finds all that it left."""
    bundle = str(oci.bundle(SLEEP))
    chance = random.Random(7)
    for number in range(KILLS):
        id = f"{C}-{number}"
        with begin(oci, "create", "-b", bundle, id) as create:
            time.sleep(chance.uniform(0, 0.012))
            create.kill()
        gone(oci, id)


def test_a_planner_killed_at_any_moment(oci: Installed) -> None:
    bundle = str(oci.bundle(SLEEP))
    chance = random.Random(8)
    for number in range(8):
        for pid in oci.planners():
            os.kill(pid, signal.SIGSTOP if number % 2 else signal.SIGCONT)
        with begin(oci, "create", "-b", bundle, C) as create:
            time.sleep(chance.uniform(0, 0.01))
            for pid in oci.planners():
                os.kill(pid, signal.SIGKILL)
            assert create.wait(30) == 0
        assert oci.status(C) == "created"
        gone(oci, C)


def test_a_crowd(oci: Installed) -> None:
    """Many creates at once: all come about, each once, and none waits for ever."""
    bundle = str(oci.bundle(SLEEP))
    ids = [f"{C}-{number}" for number in range(CROWD)]
    for words in (("create", "-b", bundle), ("start",), ("delete", "--force")):
        commands = [begin(oci, *words, id) for id in ids]
        assert [command.wait(60) for command in commands] == [0] * CROWD
        if words[0] == "create":
            assert oci.asked() == []
    assert oci.ids() == []


def test_one_id_many_creates(oci: Installed) -> None:
    bundle = str(oci.bundle(SLEEP))
    commands = [begin(oci, "create", "-b", bundle, C) for _ in range(8)]
    assert sorted(command.wait(60) for command in commands) == [0] + [1] * 7
    assert oci.status(C) == "created"
