"""The leak counter finds each kind of leak, made on purpose; and the reaper's family is what it says."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import leaks, reaper

FIND = 0.0  # a leak that is there is seen at the first look
CGROUP = "asyncrt-test"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def found(before: leaks.Snapshot, place: Path, kind: str, seconds: float = FIND) -> list[str]:
    """The leaks of one kind: somebody else's test may be making an empty cgroup at this very moment."""
    return of(kind, leaks.settle(before, [place], seconds=seconds))


def of(kind: str, lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(f"{kind} ")]


def test_nothing_is_left_when_nothing_happened(place: Path) -> None:
    assert leaks.settle(leaks.snapshot([place]), [place]) == []


def test_file(place: Path) -> None:
    before = leaks.snapshot([place])
    (place / "layer").mkdir()
    (place / "layer/upper").touch()
    assert sorted(found(before, place, "file")) == [
        f"file left behind: {place}/layer",
        f"file left behind: {place}/layer/upper",
    ]


def test_file_in_a_usual_place() -> None:
    before = leaks.snapshot()
    path = Path(f"/tmp/asyncrt-{os.getpid()}-made-on-purpose")
    path.touch()
    try:
        assert f"file left behind: {path}" in leaks.settle(before, seconds=FIND)
    finally:
        path.unlink()


def test_the_directory_of_a_living_stranger_is_not_ours() -> None:
    path = Path("/tmp/asyncrt-1-somebody")
    path.touch()
    try:
        assert str(path) not in leaks.snapshot().kinds["file"]
    finally:
        path.unlink()


def test_open_fd(place: Path) -> None:
    before = leaks.snapshot([place])
    fd = os.open("/dev/null", os.O_RDONLY)
    ends = os.pipe()
    try:
        assert sorted(found(before, place, "fd")) == [
            "fd left behind: /dev/null",
            "fd left behind: pipe (2 times)",
        ]
    finally:
        for each in (fd, *ends):
            os.close(each)


def test_unix_socket_also_when_its_file_is_gone(place: Path) -> None:
    before = leaks.snapshot([place])
    path = place / "s"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.unlink()
        assert f"socket left behind: {path}" in found(before, place, "socket")
    assert found(before, place, "socket") == []


def test_process_that_made_itself_a_daemon(place: Path) -> None:
    before = leaks.snapshot([place])
    # The shell ends, its sleep goes on in a session of its own, with nothing in its name that would tell.
    command = ["setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]
    pid = int(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    try:
        (line,) = found(before, place, "process", seconds=1.0)
        assert line.startswith(f"process left behind: {pid} (started at tick ")
        assert line.endswith("[sleep] sleep 600")
    finally:
        os.kill(pid, signal.SIGKILL)
    # Reaped by the reaper: a zombie would still be there.
    assert found(before, place, "process", leaks.SETTLE_SECONDS) == []


def test_a_strangers_process_is_not_ours(place: Path) -> None:
    # To a family of one that has no children, the other is a stranger.
    with subprocess.Popen(["sleep", "600"]) as hermit, subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            lines = leaks.snapshot([place]).kinds["process"]
            assert any(line.startswith(f"{stranger.pid} ") for line in lines)
            assert not leaks.snapshot([place], family=hermit.pid).kinds["process"]
        finally:
            hermit.kill()
            stranger.kill()


@pytest.mark.root
def test_mount_left_and_mount_gone(place: Path) -> None:
    before = leaks.snapshot([place])
    subprocess.run(["mount", "-t", "tmpfs", "made-on-purpose", place], check=True)
    try:
        mounted = leaks.snapshot([place])
        assert of("mount", leaks.diff(before, mounted)) == [
            f"mount left behind: {place} (tmpfs from made-on-purpose, its /)"
        ]
        # Twice on the same place is one more than once.
        subprocess.run(["mount", "-t", "tmpfs", "made-on-purpose", place], check=True)
        assert len(of("mount", leaks.diff(mounted, leaks.snapshot([place])))) == 1
        subprocess.run(["umount", place], check=True)
    finally:
        subprocess.run(["umount", place], check=True)
    assert of("mount", leaks.diff(mounted, leaks.snapshot([place]))) == [
        f"mount gone: {place} (tmpfs from made-on-purpose, its /)"
    ]


def _hierarchies() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.partition(" - ")[2].split()[0] in ("cgroup", "cgroup2")]


@pytest.fixture
def cgroup() -> Iterator[Path]:
    hierarchies = _hierarchies()
    if not hierarchies:
        pytest.skip("no cgroup hierarchy is mounted here")
    parent = Path(hierarchies[0], CGROUP)
    parent.mkdir()
    (parent / "inner").mkdir()
    yield parent
    (parent / "inner").rmdir()
    parent.rmdir()


@pytest.mark.root
def test_cgroup_at_the_top_and_below(place: Path, cgroup: Path) -> None:
    after = leaks.snapshot([place])
    assert {line for line in after.kinds["cgroup"] if CGROUP in line} == {str(cgroup), f"{cgroup}/inner"}


@pytest.mark.root
def test_a_cgroup_is_its_members(place: Path, cgroup: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as member:
        try:
            if "cpuset" in str(cgroup):
                pytest.skip("a new cpuset takes no process until it has cpus and mems")
            (cgroup / "inner/cgroup.procs").write_text(str(member.pid))
            ours = leaks.snapshot([place]).kinds["cgroup"]
            with subprocess.Popen(["sleep", "600"]) as hermit:
                hermits = leaks.snapshot([place], family=hermit.pid).kinds["cgroup"]
                hermit.kill()
        finally:
            member.kill()
    assert ours[f"{cgroup}/inner"] == 1
    assert hermits[f"{cgroup}/inner"] == 0, "to a family that is not in it, it is a stranger's"


@pytest.mark.root
@pytest.mark.parametrize("held_by", ["process", "mount", "fd"])
def test_network_namespace(place: Path, held_by: str) -> None:
    target = place / "net"
    target.touch()
    fd = -1
    before = leaks.snapshot([place])
    with subprocess.Popen(["unshare", "--net", "sleep", "600"]) as holder:
        try:
            own = os.readlink("/proc/self/ns/net")
            eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
            inode = os.readlink(f"/proc/{holder.pid}/ns/net")
            if held_by == "process":
                assert f"netns left behind: {inode}" in found(before, place, "netns")
            elif held_by == "mount":
                subprocess.run(["mount", "--bind", f"/proc/{holder.pid}/ns/net", target], check=True)
            else:
                fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        finally:
            holder.kill()
    if held_by == "mount":
        try:
            (line,) = found(before, place, "mount", seconds=1)
            assert "nsfs" in line
            assert inode in line
        finally:
            subprocess.run(["umount", target], check=True)
    if held_by == "fd":
        try:
            assert found(before, place, "fd", seconds=1) == ["fd left behind: net"]
        finally:
            os.close(fd)
    assert leaks.settle(before, [place]) == []


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


INNER = """
import os, subprocess, sys
from tests import reaper
del os.environ[reaper.MARK]
reaper.split()
# Behind the split: we are pytest, our parent is the reaper.
pid = int(subprocess.run(["setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], stdout=-1).stdout)
print(pid, os.getppid(), flush=True)
if sys.argv[1] == "exit":
    sys.exit(7)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("end", "status"), [("exit", 7), ("killed", 128 + 9)])
def test_the_reaper_hands_the_status_on_and_buries_what_is_left(end: str, status: int) -> None:
    # It finds its own mark in the environment, as a pytest that a test starts does; INNER takes it off.
    environment = {
        **os.environ,
        reaper.MARK: str(reaper.family()),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", INNER, end],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        check=False,
    )
    assert done.returncode == status
    pid, _ = done.stdout.split()
    assert done.stderr == f"tests: left over, killed: {pid} sleep 600\n"
    assert not Path("/proc", pid).exists()


def test_this_run_has_a_reaper() -> None:
    assert reaper.family() == os.getppid()
    value = ctypes.c_int()
    pr_get_child_subreaper = 37
    ctypes.CDLL(None).prctl(pr_get_child_subreaper, ctypes.byref(value), 0, 0, 0)
    assert value.value == 0, "the reaper's trade is not inherited: pytest itself would steal exit statuses"
