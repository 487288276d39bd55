"""Consoles of images that lay traps: nothing outside of the root is mounted on, opened or changed (CVE-2025-52565)."""

import fcntl
import os
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimd.container import console
from tests.shimd.command.runtime import Runtime
from tests.shimd.configs import MOUNTS, config, mount
from tests.shimd.direct import in_a_child

pytestmark = pytest.mark.root

C = f"asyncrt-oci-{os.getpid()}-console"
TIOCGPTN = 0x80045430
DEVPTS = next(entry for entry in MOUNTS if entry["type"] == "devpts")


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the machine, which is not to become anybody's console."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "ptmx").write_text("secret\n")
    yield place
    assert sorted(os.listdir(place)) == ["ptmx"]
    assert (place / "ptmx").read_text() == "secret\n"
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """The image's own /dev."""
    place = tmp_path / "dev"
    (place / "pts").mkdir(parents=True)
    return place


def created(oci: Runtime, device: Path, *, pts: bool) -> str:
    """What create says of a console on that /dev, with a devpts or with the image's own directory; "" if it works."""
    mounts: list[dict[str, Any]] = [MOUNTS[0], mount("bind", device, "/dev", "bind"), *([DEVPTS] if pts else [])]
    document = config("sleep", "60", mounts=mounts, process={"terminal": True})
    path = oci.folder / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        result = oci("create", "-b", str(oci.bundle(document)), "--console-socket", str(path), C)
    path.unlink()
    assert "Traceback" not in result.stderr
    assert (result.code == 0) == (not result.errors)
    return result.errors


@pytest.mark.parametrize("target", ["{victim}/ptmx", "/proc/self/root{victim}/ptmx", "pts/0", "nowhere", "console"])
def test_dev_console_as_a_symlink(oci: Runtime, device: Path, victim: Path, target: str) -> None:
    """The console lies on the link itself, wherever that leads."""
    (device / "console").symlink_to(target.format(victim=victim))
    assert created(oci, device, pts=True) == ""
    oci.must("start", C)
    assert oci.must("exec", C, "stat", "-c", "%F %t", "/dev/console").stdout == "character special file 88\n"
    oci.must("delete", "--force", C)


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_dev_console_as_something_else(oci: Runtime, device: Path, kind: str) -> None:
    if kind == "directory":
        (device / "console").mkdir()
        assert "open console: invalid argument" in created(oci, device, pts=True)
    else:
        os.mkfifo(device / "console")
        assert created(oci, device, pts=True) == ""


@pytest.mark.parametrize("kind", ["symlink", "magic", "file", "null", "directory", "nothing", "pts"])
def test_a_multiplexer_that_is_none(oci: Runtime, device: Path, victim: Path, kind: str) -> None:
    """Without a devpts of the container's own: what the image has at /dev/pts/ptmx is not taken for one."""
    ptmx = device / "pts/ptmx"
    if kind == "symlink":
        ptmx.symlink_to(victim / "ptmx")
    elif kind == "magic":
        ptmx.symlink_to("/proc/self/root/dev/ptmx")
    elif kind == "file":
        ptmx.write_text("")
    elif kind == "null":
        os.mknod(ptmx, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    elif kind == "directory":
        ptmx.mkdir()
    elif kind == "pts":
        (device / "pts").rmdir()
        (device / "pts").symlink_to(victim)
    said = created(oci, device, pts=False)
    assert said.startswith("create failed: open console: ")
    assert oci.ids() == []


def test_the_slave_is_the_masters_whatever_its_name_shows(victim: Path) -> None:
    """TIOCGPTPEER asks no name: when another file lies on /dev/pts/N, the slave is the terminal nevertheless."""

    def deed() -> None:
        master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
        number = struct.unpack("i", fcntl.ioctl(master, TIOCGPTN, bytes(4)))[0]
        name = f"/dev/pts/{number}"
        fcntl.ioctl(master, console.TIOCSPTLCK, struct.pack("i", 0))
        subprocess.run(["mount", "--bind", victim / "ptmx", name], check=True)
        assert stat.S_ISREG(os.stat(name).st_mode)
        slave = console.peer(master)
        assert os.isatty(slave)
        os.write(master, b"typed\n")
        assert os.read(slave, 100) == b"typed\n"

    in_a_child(deed)
