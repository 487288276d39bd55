"""An upper directory against its layers: the kernel's own overlay says what is right.

Trees are changed at random through a mounted overlay. What is read without a mount must be what the mount shows, and
the layer of the changes, unpacked over the image, must give it again.
"""

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.layers import changes, upper
from asyncrt.layers.apply import apply
from asyncrt.layers.upper import Difference, LeftOut
from asyncrt.layers.walk import Found, walk
from asyncrt.snapshots.copying import copy_tree
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.sources import Source
from asyncrt.snapshots.stack import Level, find, open_file, stacked
from asyncrt.supervisor.aside import mounted

pytestmark = pytest.mark.root

NAMES = ("a", "b", "c.txt", "d-e", "f")
KEY = "0123abcd"


def opened(path: Path | str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def shown(found: Found) -> tuple[object, ...]:
    """All that a layer can say of it."""
    status = found.status
    link = os.readlink(found.name, dir_fd=found.parent) if stat.S_ISLNK(status.st_mode) else b""
    data = b""
    if stat.S_ISREG(status.st_mode):
        file = os.open(found.name, os.O_RDONLY, dir_fd=found.parent)
        data = os.read(file, 1 << 16)
        os.close(file)
    xattrs = {name: value for name, value in found.xattrs.items() if name.startswith(b"user.")}
    return (
        stat.S_IFMT(status.st_mode),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_mtime_ns,
        link,
        data,
        xattrs,
    )


def tree(directory: int) -> dict[bytes, tuple[object, ...]]:
    return {found.path: shown(found) for found in walk(directory)}


class Disk:
    """Two layers and a snapshot on them."""

    def __init__(self, place: Path) -> None:
        self.top, self.low = place / "top", place / "low"
        for layer in (self.top, self.low):
            layer.mkdir()
        self.place = place
        self.source = Source("image", str(self.top), (str(self.low),))
        self.snapshots = Overlay(place)

    def prepare(self) -> None:
        self.snapshots.prepare([KEY], self.source, False)

    def change(self, deed: Callable[[Path], object]) -> None:
        with mounted(self.snapshots.mount(KEY, self.source, False), [], writable=True) as root:
            deed(Path(f"/proc/self/fd/{root}"))

    def parts(self) -> list[int]:
        return [opened(self.place / "snapshots" / KEY / "fs"), opened(self.top), opened(self.low)]

    def seen(self) -> dict[bytes, tuple[object, ...]]:
        with mounted(self.snapshots.mount(KEY, self.source, False), [], writable=False) as root:
            again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
            try:
                return tree(again)
            finally:
                os.close(again)

    def lines(self, left_out: LeftOut = LeftOut()) -> list[str]:  # noqa: B008 - a constant
        fds = self.parts()
        with stacked(fds[1:]) as below:
            found = upper.lines(fds[0], below, left_out)
        for fd in fds:
            os.close(fd)
        return [f"{one.kind} {one.path.decode()}" for one in found]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def scramble(root: Path, dice: random.Random, steps: int) -> None:
    """Anything that a program does to a tree."""

    def anywhere() -> Path:
        path = root
        for _ in range(dice.randint(1, 3)):
            path /= dice.choice(NAMES)
            if not path.is_dir() or path.is_symlink():
                return path
        return path

    def removed(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()

    for step in range(steps):
        path = anywhere()
        path.parent.mkdir(parents=True, exist_ok=True)
        match dice.randint(0, 8):
            case 0 | 1:
                removed(path)
                path.write_text(f"{step}" * dice.randint(0, 50))
            case 2:
                removed(path)
                path.mkdir()
                (path / dice.choice(NAMES)).write_text("inside")
            case 3 | 4:
                removed(path)
            case 5:
                removed(path)
                path.symlink_to(dice.choice(NAMES))
            case 6 if os.path.lexists(path) and not path.is_symlink():
                path.chmod(dice.choice((0o700, 0o755, 0o640, 0o4755)))
                os.chown(path, dice.choice((0, 7)), 0)
            case 7 if path.is_file() and not path.is_symlink():
                with path.open("a") as file:
                    file.write("more")
            case 8 if path.is_dir() and not path.is_symlink():
                os.setxattr(path, "user.mark", b"x")


@pytest.mark.parametrize("seed", range(12))
def test_what_the_kernel_shows(disk: Disk, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    scramble(disk.low, dice, 25)
    # The upper layer of the image is made as overlayfs makes one, whiteouts and opaque directories included.
    os.rmdir(disk.top)
    first = Overlay(tmp_path / "first")
    base = Source("image", str(disk.low))
    first.prepare([KEY], base, False)
    with mounted(first.mount(KEY, base, False), [], writable=True) as root:
        scramble(Path(f"/proc/self/fd/{root}"), dice, 25)
    os.rename(tmp_path / "first" / "snapshots" / KEY / "fs", disk.top)
    disk.prepare()
    disk.change(lambda root: scramble(root, dice, 25))

    expected = disk.seen()
    fds = disk.parts()
    with stacked(fds[1:]) as below:
        whole = {found.path: shown(found) for found in upper.whole(fds[0], below, LeftOut()) if found.path}
        assert whole == expected
        before = tmp_path / "before"
        before.mkdir()
        layer = tmp_path / "layer"
        with layer.open("wb") as file:
            found = (one.change for one in upper.changed(fds[0], below, LeftOut()))
            changes.write(found, file.write, "plain")
        # The image as one tree, and the layer over it.
        image = tmp_path / "image"
        with image.open("wb") as file:
            changes.write(upper.whole(None, below, LeftOut()), file.write, "plain")
    target = opened(before)
    for blob in (image, layer):
        with blob.open("rb") as file:
            apply(file.fileno(), target, "remove")
    assert tree(target) == expected
    for fd in (*fds, target):
        os.close(fd)


def test_lines_as_docker_has_them(disk: Disk) -> None:
    (disk.low / "etc").mkdir()
    (disk.low / "etc/passwd").write_text("x")
    (disk.low / "etc/gone").write_text("x")
    (disk.low / "home/app").mkdir(parents=True)
    (disk.low / "same").write_text("x")
    (disk.low / "kind").write_text("x")
    disk.prepare()

    def change(root: Path) -> None:
        (root / "etc/gone").unlink()
        (root / "etc/new").write_text("x")
        (root / "kind").unlink()
        (root / "kind").mkdir()
        (root / "kind/inside").write_text("x")
        shutil.rmtree(root / "home")
        (root / "home").mkdir()
        (root / "home/other").write_text("x")
        (root / "same").open("r+").close()  # copied up, and not changed
        (root / "fleeting").write_text("x")
        (root / "fleeting").unlink()

    disk.change(change)
    assert disk.lines() == [
        "C /etc",
        "D /etc/gone",
        "A /etc/new",
        "C /home",
        "D /home/app",
        "A /home/other",
        "C /kind",
        "A /kind/inside",
    ]


def test_the_root_s_own_mode(disk: Disk) -> None:
    disk.prepare()
    disk.change(lambda root: root.chmod(0o700))
    assert disk.lines() == ["C /"]


def test_what_is_left_out(disk: Disk) -> None:
    (disk.low / "etc").mkdir()
    (disk.low / "etc/hosts").write_text("the image's")
    disk.prepare()

    def change(root: Path) -> None:
        (root / "etc/hosts").write_text("mine")
        for name in ("proc", "data"):
            (root / name).mkdir()
        (root / "data/kept").write_text("x")

    disk.change(change)
    left_out = LeftOut(frozenset({b"etc/hosts"}), frozenset({b"proc", b"data"}))
    # A time of /etc is one: something was made in it, as docker sees it, too.
    assert [line for line in disk.lines(left_out) if line != "C /etc"] == ["A /data", "A /data/kept"]
    fds = disk.parts()
    with stacked(fds[1:]) as below:
        found = {one.path: shown(one) for one in upper.whole(fds[0], below, left_out)}
    assert found[b"etc/hosts"][5] == b"the image's"
    assert b"proc" not in found
    for fd in fds:
        os.close(fd)


def test_paths_through_symlinks_of_the_merged_tree(disk: Disk) -> None:
    """As the kernel resolves them in a root (CVE-2022-23648: a volume's path is the image's word)."""
    (disk.low / "run/lib").mkdir(parents=True)
    (disk.low / "run/lib/file").write_text("found")
    (disk.top / "var").mkdir()
    (disk.top / "var/run").symlink_to("/run")
    (disk.top / "out").symlink_to("../../../../etc")
    (disk.top / "ring").symlink_to("ring")
    fds = [opened(disk.top), opened(disk.low)]
    with stacked(fds) as root:
        level = find(root, b"/var/run/../run/lib")
        assert isinstance(level, Level)
        assert level.names() == [b"file"]
        level.close()
        file = open_file(root, b"var/run/lib/file", os.O_RDONLY)
        assert os.read(file, 10) == b"found"
        os.close(file)
        assert find(root, b"out") is None, "there is no /etc in this root, whatever the machine has"
        assert find(root, b"/var/run/lib/file") is None
        with pytest.raises(OSError, match="symbolic links"):
            find(root, b"ring")
        with pytest.raises(FileNotFoundError):
            open_file(root, b"out/passwd", os.O_RDONLY)
    for fd in fds:
        os.close(fd)


def test_the_copy_of_a_layer_is_equal(disk: Disk, tmp_path: Path) -> None:
    """The measure of the tests above: a tree is equal to its copy and to nothing else."""
    scramble(disk.low, random.Random(1), 20)
    (tmp_path / "copy").mkdir()
    origin, target = opened(disk.low), opened(tmp_path / "copy")
    copy_tree(origin, target)
    assert tree(origin) == tree(target) != {}
    (tmp_path / "copy/extra").write_text("x")
    assert tree(origin) != tree(target)
    os.close(origin)
    os.close(target)


def test_differences_are_values() -> None:
    assert Difference("A", b"/x") == ("A", b"/x")
