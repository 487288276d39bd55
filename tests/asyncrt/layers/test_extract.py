"""Layers into directories: what an honest one becomes, and that a hostile one leaves its tree untouched around it."""

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.layers.whiteouts import Style
from tests.asyncrt.layers.tars import (
    END,
    GNU,
    directory,
    file,
    hardlink,
    header,
    names,
    padded,
    pax,
    symlink,
    unpack,
)
from tests.asyncrt.layers.test_reader import FLAT, _old

STYLES: tuple[Style, ...] = ("overlay-user", "remove")


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> Style:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Where a layer goes; what lies beside it must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("kept")
    return tmp_path / "tree"


@pytest.fixture(autouse=True)
def nothing_outside_changes(tree: Path) -> Iterator[None]:
    yield
    assert names(tree.parent / "outside") == ["precious"]
    assert (tree.parent / "outside/precious").read_text() == "kept"


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


def test_modes_times_and_contents(tree: Path, style: Style) -> None:
    big = os.urandom(3 << 20)
    data = (
        directory(b"./", mode=0o750, mtime=5)
        + directory(b"d/", mode=0o1777, mtime=77)
        + file(b"d/f", b"hello", mtime=9)
    )
    data += file(b"d/big", big, mode=0o4711) + file(b"d/none", mode=0) + symlink(b"d/s", b"/etc/passwd")
    data += hardlink(b"h", b"d/f") + directory(b"d/e/", mode=0o2555, mtime=3) + header(b"p", b"6", mode=0o622)
    data += pax((b"mtime", b"12.345678901")) + file(b"d/e/deep", b"x")
    applied = unpack(data + END, tree, style)
    assert applied.entries == 10
    assert applied.size == len(data + END)
    assert (tree / "d/f").read_bytes() == b"hello"
    assert (tree / "d/big").read_bytes() == big
    modes = {"": 0o750, "d": 0o1777, "d/f": 0o644, "d/big": 0o4711, "d/none": 0, "d/e": 0o2555, "p": 0o622}
    assert {path: stat.S_IMODE((tree / path).lstat().st_mode) for path in modes} == modes
    assert (tree / "d/s").readlink() == Path("/etc/passwd")
    assert (tree / "h").stat().st_ino == (tree / "d/f").stat().st_ino
    assert stat.S_ISFIFO((tree / "p").stat().st_mode)
    times = {"": 5, "d": 77, "d/f": 9, "d/e": 3}
    assert {path: (tree / path).stat().st_mtime for path in times} == times
    assert (tree / "d/e/deep").stat().st_mtime_ns == 12_345_678_901


def test_whatever_the_umask_is(tree: Path, style: Style) -> None:
    before = os.umask(0o077)
    try:
        unpack(directory(b"d/", mode=0o777) + file(b"d/f", mode=0o666) + file(b"i/f"), tree, style)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tree / path).stat().st_mode) for path in ("d", "d/f", "i")]
    assert modes == [0o777, 0o666, 0o755]


def test_sparse_files_stay_sparse(tree: Path) -> None:
    size = 64 << 20
    flat = [*FLAT[:2], size - 2, 2]
    unpack(_old(flat, size, 5) + padded(b"abcde") + file(b"after", b"x"), tree)
    status = (tree / "s").stat()
    assert (status.st_size, status.st_blocks < 64) == (size, True)
    content = (tree / "s").read_bytes()
    assert (content[4096:4099], content[-2:], content.count(0)) == (b"abc", b"de", size - 5)
    assert (tree / "after").read_text() == "x"


def test_the_last_of_one_name_wins(tree: Path, style: Style) -> None:
    data = file(b"a", b"1") + file(b"a", b"2") + directory(b"b/") + file(b"b/x") + file(b"b", b"3")
    data += file(b"c") + directory(b"c/") + file(b"c/x") + symlink(b"d", b"nowhere") + file(b"d", b"4")
    data += directory(b"e/") + directory(b"e/", mode=0o700) + file(b"f") + symlink(b"f", b"a") + hardlink(b"f", b"a")
    unpack(data, tree, style)
    assert names(tree) == ["a", "b", "c", "c/x", "d", "e", "f"]
    assert [(tree / name).read_text() for name in "abd"] == ["2", "3", "4"]
    assert stat.S_IMODE((tree / "e").stat().st_mode) == 0o700
    assert (tree / "f").stat().st_ino == (tree / "a").stat().st_ino


def test_entries_come_through_symlinks_of_the_tree_and_stay_in_it(tree: Path, style: Style) -> None:
    data = directory(b"usr/") + directory(b"usr/lib/") + symlink(b"lib", b"usr/lib") + file(b"lib/a", b"1")
    data += symlink(b"abs", b"/usr") + file(b"abs/b") + symlink(b"up", b"../../../../..") + file(b"up/c")
    unpack(data, tree, style)
    assert names(tree) == ["abs", "c", "lib", "up", "usr", "usr/b", "usr/lib", "usr/lib/a"]


def test_directories_that_nobody_described(tree: Path) -> None:
    applied = unpack(file(b"a/b/c") + directory(b"a/", mode=0o700) + file(b"x/y"), tree)
    assert applied.implicit == (b"", b"a/b", b"x")
    assert [(tree / path).stat().st_mtime for path in ("a/b", "x")] == [0, 0]


def test_a_directory_more_than_may_be_kept_open(tree: Path, style: Style) -> None:
    data = b"".join(file(b"%d/%d/f" % (n % 150, n), b"%d" % n) for n in range(600))
    unpack(data, tree, style)
    assert all((tree / f"{n % 150}/{n}/f").read_text() == str(n) for n in range(600))


def test_whiteouts_become_overlays(tree: Path) -> None:
    data = (
        file(b"gone/.wh.a")
        + file(b"d/.wh..wh..opq")
        + file(b"d/kept")
        + file(b".wh.top")
        + hardlink(b".wh.h", b"gone/x")
    )
    unpack(data, tree)
    assert names(tree) == ["d", "d/kept", "gone", "gone/a", "h", "top"]
    assert all(is_whiteout(tree / name) for name in ("gone/a", "top", "h"))
    assert is_opaque(tree / "d")


@pytest.mark.parametrize("order", [1, -1])
def test_whiteouts_are_for_the_layers_below(tree: Path, order: int) -> None:
    pairs = [(file(b".wh.f"), file(b"f", b"new")), (file(b".wh.d"), directory(b"d/")), (file(b".wh.i"), file(b"i/x"))]
    unpack(b"".join(b"".join(pair[::order]) for pair in pairs), tree)
    assert names(tree) == ["d", "f", "i", "i/x"]
    assert (tree / "f").read_text() == "new"
    assert is_opaque(tree / "d")
    assert is_opaque(tree / "i")


BELOW = directory(b"d/") + file(b"d/old") + directory(b"d/s/") + file(b"d/s/old") + file(b"f") + symlink(b"l", b"d")


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (file(b".wh.f"), "d d/old d/s d/s/old l"),
        (file(b".wh.d"), "f l"),
        (file(b".wh.l"), "d d/old d/s d/s/old f"),
        (file(b"d/.wh.old") + file(b"no/such/.wh.thing"), "d d/s d/s/old f l"),
        (file(b"d/.wh..wh..opq") + file(b"d/new"), "d d/new f l"),
        (file(b"d/new") + file(b"d/.wh..wh..opq"), "d d/new f l"),
        (file(b"d/s/new") + file(b"d/.wh..wh..opq"), "d d/s d/s/new f l"),
        (file(b"d/s/new") + file(b".wh.d"), "d d/s d/s/new f l"),
        (file(b".wh.f") + file(b"f"), "d d/old d/s d/s/old f l"),
        (file(b"f") + file(b".wh.f"), "d d/old d/s d/s/old f l"),
        (symlink(b"d", b"f"), "d f l"),
        (directory(b"f/"), "d d/old d/s d/s/old f l"),
        (directory(b"l/") + file(b"l/x"), "d d/old d/s d/s/old f l l/x"),
        (file(b"l/.wh.old"), "d d/s d/s/old f l"),
        (hardlink(b"g", b"d/old"), "d d/old d/s d/s/old f g l"),
        (file(b".wh..wh.plnk/1.2") + file(b".wh..wh.aufs"), "d d/old d/s d/s/old f l"),
    ],
)
def test_whiteouts_remove(tree: Path, data: bytes, left: str) -> None:
    unpack(BELOW, tree, "remove")
    unpack(data, tree, "remove")
    assert names(tree) == left.split()


def test_directories_below_keep_what_the_layer_does_not_say(tree: Path) -> None:
    unpack(
        directory(b"./", mtime=4) + directory(b"d/", mode=0o711, mtime=5) + file(b"d/a") + file(b"d/b"), tree, "remove"
    )
    unpack(file(b"d/c") + file(b"d/.wh.a"), tree, "remove")
    status = (tree / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, tree.stat().st_mtime) == (0o711, 5, 4)
    assert names(tree) == ["d", "d/b", "d/c"]


def test_xattrs_that_a_layer_may_set(tree: Path) -> None:
    records = [
        (b"SCHILY.xattr.user.mine", b"\0\1"),
        (b"SCHILY.xattr.user.overlay.opaque", b"y"),
        (b"SCHILY.xattr.user.overlay.redirect", b"/etc"),
        (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        (b"SCHILY.xattr.security.selinux", b"x"),
    ]
    applied = unpack(pax(*records) + directory(b"d/") + pax(*records) + file(b"f"), tree)
    for name in ("d", "f"):
        assert os.listxattr(tree / name) == ["user.mine"]
        assert os.getxattr(tree / name, "user.mine") == b"\0\1"
    assert applied.dropped_xattrs == 8


HOSTILE = {
    "a symlink and a file through it": symlink(b"out", b"../outside") + file(b"out/precious", b"lost"),
    "an absolute symlink": symlink(b"out", b"%s") + file(b"out/precious", b"lost"),
    "a symlink to a symlink": symlink(b"a", b"..") + symlink(b"b", b"a/outside") + file(b"b/precious", b"lost"),
    "a symlink that a directory was": directory(b"d/")
    + file(b"d/x")
    + symlink(b"d", b"../outside")
    + file(b"d/precious"),
    "a hardlink through a symlink": symlink(b"out", b"%s") + hardlink(b"h", b"out/precious") + file(b"h", b"lost"),
    "a hardlink to a symlink": symlink(b"s", b"%s/precious") + hardlink(b"h", b"s") + file(b"h", b"not lost"),
    "a file over a symlink": symlink(b"f", b"%s/precious") + file(b"f", b"not lost"),
    "a hardlink to a directory": directory(b"d/") + hardlink(b"h", b"d"),
    "a hardlink to itself": hardlink(b"h", b"h"),
    "a hardlink to the root": hardlink(b"h", b"./"),
    "a hardlink to what is not there": hardlink(b"h", b"precious"),
    "a hardlink to a whiteout": file(b".wh.a") + hardlink(b"h", b"a"),
    "a whiteout of dot dot": file(b"d/.wh..."),
    "a whiteout of dot": file(b"d/.wh.."),
    "a whiteout of nothing": file(b"d/.wh."),
    "a whiteout through a symlink": symlink(b"out", b"%s") + file(b"out/.wh.precious"),
    "an opaque mark through a symlink": symlink(b"out", b"../outside") + file(b"out/.wh..wh..opq"),
    "something below a whiteout": file(b".wh.d/f"),
    "a device that is a whiteout": header(b"a", b"3"),
    "the root as a file": file(b"./"[:1]),
    "the root as a symlink": symlink(b"./", b"../outside"),
    "a file in a file": file(b"a") + file(b"a/b"),
    "a loop of symlinks": symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/c"),
    "a file behind a dangling symlink": symlink(b"a", b"nowhere") + file(b"a/c"),
    "a directory behind a dangling symlink": symlink(b"a", b"../outside/new") + directory(b"a/c/"),
    "times through a symlink": directory(b"d/", mtime=1) + symlink(b"d", b"../outside"),
    "a component that is too long": pax((b"path", b"x" * 256)) + file(b"a"),
}
# Those that are no fault: they are unpacked, inside the tree. The last two take away what is not there.
FINE = {"a hardlink to a symlink", "a file over a symlink", "times through a symlink"}
# Stacked they are placeholders, which the snapshot's commit refuses (tests/asyncrt/snapshots/test_borrow.py).
FINE_TO_STACK = FINE | {"a hardlink through a symlink", "a hardlink to what is not there"}
FINE_TO_REMOVE = FINE | {"a whiteout through a symlink", "an opaque mark through a symlink"}


@pytest.mark.parametrize("case", HOSTILE)
def test_nothing_leads_out(tree: Path, style: Style, case: str) -> None:
    outside = os.fsencode(tree.parent / "outside")
    data = HOSTILE[case]
    if b"%s" in data:
        at = data.index(b"%s")
        block, rest = data[at - 157 : at + 355], data[at + 355 :]
        target = block[157:257].rstrip(b"\0").replace(b"%s", outside)
        data = data[: at - 157] + symlink(block[:100].rstrip(b"\0"), target) + rest
    before = (tree.parent / "outside").stat().st_mtime_ns
    if case in (FINE_TO_REMOVE if style == "remove" else FINE_TO_STACK):
        unpack(data, tree, style)
    else:
        with pytest.raises(BadImage) as caught:
            unpack(data, tree, style)
        assert caught.value.subject
        assert caught.value.cause
    assert (tree.parent / "outside").stat().st_mtime_ns == before
    assert not tree.is_symlink()


def test_bombs_by_size_and_ratio(tree: Path) -> None:
    import gzip

    from asyncrt.layers.limits import Limits

    bomb = gzip.compress(file(b"zeros", bytes(64 << 20)))
    with pytest.raises(BadImage, match="grown 200 times"):
        unpack(bomb, tree, limits=Limits(ratio_from=1 << 20))
    with pytest.raises(BadImage, match="more than 1048576 bytes"):
        unpack(bomb, tree, limits=Limits(tar_bytes=1 << 20))
    assert (tree / "zeros").stat().st_size < 8 << 20


def test_a_check_that_raises_ends_it(tree: Path) -> None:
    class Cancelled(Exception):
        pass

    def check() -> None:
        raise Cancelled

    before = threading.active_count()
    with pytest.raises(Cancelled):
        unpack(b"".join(file(b"%d" % n, bytes(9000)) for n in range(5000)), tree, check=check)
    assert len(names(tree)) < 200
    with pytest.raises(Cancelled):
        unpack(file(b"big", bytes(64 << 20)), tree, check=check)
    assert (tree / "big").stat().st_size < 8 << 20
    assert threading.active_count() == before


def test_a_mark_for_directories_below_a_gnu_name(tree: Path) -> None:
    long = b"/".join([b"n" * 200] * 10)
    unpack(file(b"././@LongLink", long + b"\0", kind=b"L", magic=GNU) + file(b"x", b"deep"), tree)
    assert (tree / os.fsdecode(long)).read_text() == "deep"


# What only root can make


@pytest.mark.root
def test_owners_devices_and_capabilities(tree: Path, style: Style) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    data = directory(b"./", uid=7) + file(b"f", b"x", uid=1000, gid=1001, mode=0o6755)
    data += pax((b"SCHILY.xattr.security.capability", capability)) + file(b"ping", b"x", uid=3, mode=0o755)
    data += header(b"null", b"3", mode=0o666, major=1, minor=3, gid=5) + header(b"disk", b"4", major=8, minor=300)
    data += header(b"s", b"2", link=b"f", uid=11, gid=12) + directory(b"sg/", mode=0o2775, gid=50) + file(b"sg/f")
    unpack(data, tree, style)
    assert tree.stat().st_uid == 7
    status = (tree / "f").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1000, 1001, 0o6755)
    assert os.getxattr(tree / "ping", "security.capability") == capability
    status = (tree / "null").stat()
    assert (stat.S_ISCHR(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev)) == (True, 1, 3)
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o666, 5)
    status = (tree / "disk").stat()
    assert (stat.S_ISBLK(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev)) == (True, 8, 300)
    status = (tree / "s").lstat()
    assert (status.st_uid, status.st_gid) == (11, 12)
    assert [(tree / path).stat().st_gid for path in ("sg", "sg/f")] == [50, 0]


@pytest.mark.root
def test_a_device_is_not_written_to(tree: Path, style: Style) -> None:
    """A node of the null device, then a file of its name: the file replaces the node."""
    unpack(header(b"n", b"3", major=1, minor=3) + file(b"n", b"hello"), tree, style)
    assert (tree / "n").read_text() == "hello"


@pytest.mark.root
def test_files_in_final_directories_take_nothing_from_them(tree: Path) -> None:
    acl = bytes.fromhex(
        "02000000" + "0100070" + "0ffffffff" + "04000500ffffffff" + "10000700ffffffff" + "20000000ffffffff"
    )
    records = (b"SCHILY.xattr.system.posix_acl_default", acl)
    unpack(pax(records) + directory(b"d/", mode=0o2775, gid=50), tree, "remove")
    if "system.posix_acl_default" not in os.listxattr(tree / "d"):
        pytest.skip("this file system has no ACLs")
    unpack(file(b"d/f") + directory(b"d/e/", mode=0o750), tree, "remove")
    assert [(tree / path).stat().st_gid for path in ("d/f", "d/e")] == [0, 0]
    assert stat.S_IMODE((tree / "d/f").stat().st_mode) == 0o644
    assert os.listxattr(tree / "d/f") == os.listxattr(tree / "d/e") == []


@pytest.mark.root
def test_a_full_disk_says_so(tmp_path: Path, tree: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        with pytest.raises(StorageFailed, match=r"unpack big: no space left on device \(free some space"):
            unpack(file(b"big", os.urandom(2 << 20)), small / "tree")
    finally:
        subprocess.run(["umount", small], check=True)
