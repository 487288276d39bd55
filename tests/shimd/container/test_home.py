"""HOME out of a passwd file that may say anything."""

import os
from pathlib import Path

import pytest

from shimd.container import home

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment
broken:x:1000:1000:/home/broken
far:x:1001:1001::home/relative:/bin/sh
nul:x:1002:1002::/home/\0x:/bin/sh
long:x:1003:1003::/"""
PASSWD += (
    b"x" * 5000
    + b""":/bin/sh
app:x:1000:1000:The app:/home/app:/bin/sh
app2:x:1000:1000:Another:/home/other:/bin/sh
 spaced:x: 1004:1004::/home/spaced:/bin/sh
plus:x:+1005:1005::/home/plus:/bin/sh
zero:x:01006:1006::/home/zero:/bin/sh
bytes:x:1007:1007::/home/\xff:/bin/sh"""
)


@pytest.mark.parametrize(
    ("uid", "found"),
    [
        (0, "/root"),
        (1000, "/home/app"),
        (1001, "/"),
        (1002, "/"),
        (1003, "/"),
        (1004, "/"),
        (1005, "/"),
        (1006, "/"),
        (1007, "/home/\udcff"),
        (4294967294, "/"),
    ],
)
def test_lines(uid: int, found: str) -> None:
    assert home.home_of(uid, PASSWD) == found


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [((), True), (("HOME=",), True), (("HOME=/x",), False), (("HOME=/x", "HOME="), True), (("HOMES=/x",), True)],
)
def test_when_it_is_wanted(environment: tuple[str, ...], wanted: bool) -> None:
    assert home.wanted(environment) == wanted


def read(root: Path) -> bytes:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return home._read(fd)
    finally:
        os.close(fd)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    place = tmp_path / "root/etc"
    place.mkdir(parents=True)
    return place


def test_no_more_is_read_than_a_mebibyte(etc: Path) -> None:
    with (etc / "passwd").open("wb") as file:
        file.truncate(1 << 32)
    assert len(read(etc.parent)) == home.MOST_BYTES


def test_a_fifo_and_a_device_are_no_passwd(etc: Path) -> None:
    """A fifo without a writer would keep an open, or a read, for ever."""
    os.mkfifo(etc / "passwd")
    assert read(etc.parent) == b""


def test_a_symlink_stays_inside(etc: Path) -> None:
    (etc.parent.parent / "passwd").write_bytes(b"of the machine")
    (etc / "passwd").symlink_to("../../passwd")
    with pytest.raises(FileNotFoundError):
        read(etc.parent)
    (etc / "passwd").unlink()
    (etc / "own").write_bytes(b"of the image")
    (etc / "passwd").symlink_to("/etc/own")
    assert read(etc.parent) == b"of the image"


def test_no_magic_link(etc: Path) -> None:
    (etc / "passwd").symlink_to(f"/proc/{os.getpid()}/root/etc/passwd")
    (etc.parent / "proc").mkdir()
    with pytest.raises(OSError, match="No such file"):
        read(etc.parent)
