"""A container that shares a volume with one that starts, and swaps what the other is about to mount on.

For some seconds a directory of the volume is exchanged with a symlink out of it, as fast as the kernel does it
(renameat2(2), RENAME_EXCHANGE), while containers start that mount, mask and make below it (CVE-2021-30465). Whatever
a start makes of that, an error or a container, nothing of the machine is touched and nothing of it is seen.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shimd.configs import MOUNTS, NAMESPACES, config, maps, mount
from tests.shimd.stage import Stage, StartFailed

pytestmark = pytest.mark.root
SECONDS = 3.0
EXCHANGE = 2


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Exchange the two for as long as it lasts, in a process of its own."""
    libc = ctypes.CDLL(None)
    names = os.fsencode(one), os.fsencode(other)
    pid = os.fork()
    if pid == 0:
        while True:
            libc.renameat2(-100, names[0], -100, names[1], EXCHANGE)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the machine that has what the containers look for, and must stay as it is."""
    place = tmp_path / "victim"
    (place / "y").mkdir(parents=True)
    (place / "secret").write_text("secret\n")
    yield place
    assert sorted(os.listdir(place)) == ["secret", "y"]
    assert os.listdir(place / "y") == []
    assert (place / "secret").read_text() == "secret\n"
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


def shared_volume(tmp_path: Path, target: str) -> Path:
    """vol/x is a directory with a file, vol/z a symlink to the target."""
    volume = tmp_path / "vol"
    (volume / "x/y").mkdir(parents=True)
    (volume / "x/secret").write_text("own\n")
    (volume / "z").symlink_to(target)
    return volume


STEPS: dict[str, dict[str, Any]] = {
    "tmpfs": {"mount": mount("tmpfs", "t", "/vol/x/y", "size=64k", "mode=755")},
    "deeper": {"mount": mount("tmpfs", "t", "/vol/x/y/made/deep", "size=64k", "mode=755")},
    "copy": {"mount": mount("tmpfs", "t", "/vol/x/y", "tmpcopyup")},
    "bind": {"mount": mount("bind", "/etc", "/vol/x/y", "bind", "ro")},
    "file": {"mount": mount("bind", "/etc/hostname", "/vol/x/y/file", "bind", "ro")},
    "mask": {"linux": {"maskedPaths": ["/vol/x/y", "/vol/x/secret"], "readonlyPaths": []}},
    "readonly": {"linux": {"maskedPaths": [], "readonlyPaths": ["/vol/x/y", "/vol/x/secret"]}},
    "device": {"linux": {"devices": [{"type": "c", "path": "/vol/x/y/null", "major": 1, "minor": 3}]}},
    "cwd": {"process": {"cwd": "/vol/x/y/cwd"}},
}


def test_a_directory_that_turns_into_a_symlink(stage: Stage, tmp_path: Path, victim: Path) -> None:
    """Absolute, upwards, and through the links of /proc."""
    script = "cat /proc/self/mountinfo; cat /vol/x/secret 2>/dev/null; true"
    counts = {"started": 0, "refused": 0}
    for number, target in enumerate((str(victim), f"../../../../../../..{victim}", "/proc/1/root/../..")):
        volume = shared_volume(tmp_path / str(number), target)
        keys = []
        for step in STEPS.values():
            mounts = [*MOUNTS, mount("bind", volume, "/vol", "rbind"), *([step["mount"]] if "mount" in step else [])]
            rest = {name: value for name, value in step.items() if name != "mount"}
            keys.append(stage.template(config("sh", "-c", script, mounts=mounts, **rest)))
        deadline = time.monotonic() + SECONDS / 3
        with swapping(volume / "x", volume / "z"):
            while time.monotonic() < deadline:
                for key in keys:
                    outcome = attempt(stage, key, victim)
                    counts[outcome] += 1
                stage.empty()
    # Else the race was none.
    assert counts["started"] > 5, counts
    assert counts["refused"] > 5, counts


def attempt(stage: Stage, key: str, victim: Path) -> str:
    container = stage.prepare()
    stage.spawn(container, key)
    try:
        container.started()
    except StartFailed as error:
        assert "bug" not in str(error)  # noqa: PT017 # either end is right
        return "refused"
    container.ended()
    said = container.log("stdout").decode()
    assert "secret\n" not in said
    roots = {line.split()[3] for line in said.splitlines() if " - " in line}
    assert not [root for root in roots if root.startswith(str(victim))], said
    return "started"


@pytest.mark.busybox
def test_the_same_in_a_user_namespace(stage: Stage, tmp_path: Path, victim: Path) -> None:
    """There the mounts are attached that the runtime had opened before."""
    volume = shared_volume(tmp_path, f"../../../../../../..{victim}")
    for place in (volume, volume / "x", volume / "x/y"):
        os.chown(place, 100000, 100000)
    extra = [mount("bind", volume, "/tmp", "rbind"), mount("bind", "/etc", "/tmp/x/y", "bind", "ro")]
    document = config(
        *("cat", "/proc/self/mountinfo"), namespaces=[*NAMESPACES, "user"], mounts=[*MOUNTS, *extra], linux=maps(100000)
    )
    key = stage.template(document)
    deadline = time.monotonic() + SECONDS / 3
    started = 0
    with swapping(volume / "x", volume / "z"):
        while time.monotonic() < deadline:
            container = stage.prepare(owner=100000)
            stage.spawn(container, key)
            with contextlib.suppress(StartFailed):
                container.started()
                container.ended()
                said = container.log("stdout").decode()
                # Once, and on a directory of its own: by either name, or what the symlink means inside.
                places = [line.split()[4] for line in said.splitlines() if line.split()[3] == "/etc"]
                assert places in (["/tmp/x/y"], ["/tmp/z/y"], [f"{victim}/y"])
                started += 1
            stage.empty()
    assert started
