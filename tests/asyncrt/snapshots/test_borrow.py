"""Hardlinks of a layer to files that only the layers below have: the same tree, stacked or copied."""

import os
import stat
from pathlib import Path

import pytest

from asyncrt.errors import BadImage
from asyncrt.snapshots import borrow
from asyncrt.snapshots.overlay import Overlay
from tests.asyncrt.layers.tars import directory, file, hardlink, pax, symlink, unpack
from tests.asyncrt.snapshots.test_contract import CHAINS, Snapshots, add, make, snapshots

__all__ = ["make", "snapshots"]  # fixtures: both snapshotters

BELOW = (
    directory(b"./", mode=0o755, mtime=1)
    + directory(b"usr/", mode=0o711, mtime=2)
    + directory(b"usr/lib/", mode=0o750, mtime=3)
    + pax((b"SCHILY.xattr.user.mine", b"kept"))
    + file(b"usr/lib/a", b"from below", mode=0o4711, mtime=4, uid=7, gid=8)
    + symlink(b"usr/lib/s", b"a")
    + symlink(b"lib", b"usr/lib")
    + directory(b"d/", mtime=5)
    + file(b"d/gone", b"gone")
)


def top(snapshots: Snapshots, number: int) -> Path:
    """The tree that the layer itself has (stacked), or all of it (copied)."""
    return Path(snapshots.source(CHAINS[number]).path)


def inodes(*paths: Path) -> int:
    return len({path.lstat().st_ino for path in paths})


@pytest.mark.root
def test_two_names_of_one_file(snapshots: Snapshots) -> None:
    add(snapshots, 0, BELOW)
    add(
        snapshots, 1, directory(b"d/", mode=0o700, mtime=9) + hardlink(b"d/b", b"usr/lib/a") + hardlink(b"c", b"d/b"), 0
    )
    tree = top(snapshots, 1)
    assert inodes(tree / "d/b", tree / "c", tree / "usr/lib/a") == 1
    status = (tree / "c").stat()
    assert (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == ("0o104711", 7, 8, 4)
    assert (tree / "c").read_text() == "from below"
    assert os.getxattr(tree / "c", "user.mine") == b"kept"
    found = [((tree / name).stat().st_mtime, oct((tree / name).stat().st_mode)) for name in ("d", "usr", "usr/lib")]
    assert found == [(9, "0o40700"), (2, "0o40711"), (3, "0o40750")]


@pytest.mark.root
@pytest.mark.parametrize("target", [b"lib/a", b"./usr/lib/a", b"lib//a"])
def test_through_a_symlink_of_the_layers_below(snapshots: Snapshots, target: bytes) -> None:
    add(snapshots, 0, BELOW)
    add(snapshots, 1, hardlink(b"c", target), 0)
    tree = top(snapshots, 1)
    assert inodes(tree / "c", tree / "usr/lib/a") == 1
    assert (tree / "c").read_text() == "from below"
    assert (tree / "usr/lib").stat().st_mtime == 3


@pytest.mark.root
def test_a_link_to_a_symlink(snapshots: Snapshots) -> None:
    add(snapshots, 0, BELOW)
    add(snapshots, 1, hardlink(b"c", b"usr/lib/s"), 0)
    assert os.readlink(top(snapshots, 1) / "c") == "a"


@pytest.mark.root
def test_what_the_layer_puts_in_its_place_stays(snapshots: Snapshots) -> None:
    add(snapshots, 0, BELOW)
    add(snapshots, 1, hardlink(b"c", b"usr/lib/a") + file(b"usr/lib/a", b"new") + hardlink(b"e", b"c"), 0)
    tree = top(snapshots, 1)
    assert (tree / "usr/lib/a").read_text() == "new"
    assert ((tree / "c").read_text(), (tree / "e").read_text()) == ("from below", "from below")
    assert inodes(tree / "c", tree / "e") == 1


@pytest.mark.root
def test_a_name_that_is_used_again(snapshots: Snapshots) -> None:
    """By the same path and by another one to the same place; also where a placeholder's inode comes again."""
    add(snapshots, 0, BELOW + file(b"d/other", b"other"))
    data = hardlink(b"c", b"usr/lib/a") + file(b"c", b"mine") + hardlink(b"x", b"d/other")
    data += directory(b"r/") + symlink(b"q", b"r") + hardlink(b"r/y", b"usr/lib/a") + hardlink(b"q/y", b"d/other")
    add(snapshots, 1, data, 0)
    tree = top(snapshots, 1)
    assert [(tree / name).read_text() for name in ("c", "x", "r/y")] == ["mine", "other", "other"]
    assert not [path for path in tree.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]


@pytest.mark.root
@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (hardlink(b"c", b"no/such"), "in no layer"),
        (hardlink(b"c", b"usr/lib/a/b"), "in no layer"),
        (hardlink(b"c", b"out/precious"), "in no layer"),
        (hardlink(b"c", b"ring/x"), "too many symlinks"),
        (hardlink(b"c", b"usr/lib"), "is a directory"),
        (hardlink(b"c", b"d/gone") + file(b"d/.wh.gone"), "taken away by this layer"),
        (hardlink(b"c", b"d/gone") + file(b".wh.d"), "taken away by this layer"),
        (directory(b"d/") + file(b"d/.wh..wh..opq") + hardlink(b"c", b"d/gone"), "taken away by this layer"),
        (hardlink(b"c", b"d/gone/deeper") + file(b"d/.wh.gone"), "taken away by this layer"),
    ],
)
def test_a_link_to_what_is_not_seen_is_refused(tmp_path: Path, data: bytes, cause: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("kept")
    snapshots = Overlay(tmp_path / "root")
    below = BELOW + symlink(b"out", os.fsencode(tmp_path / "outside")) + symlink(b"ring", b"ring")
    add(snapshots, 0, below)
    add(snapshots, 1, file(b"x"), 0)
    begun = snapshots.begin(CHAINS[2], CHAINS[1])
    applied = unpack(data, Path(begun.tree), snapshots.style)
    with pytest.raises(BadImage, match=cause) as caught:
        snapshots.commit(begun, applied.implicit, applied.borrowed)
    assert caught.value.subject
    snapshots.layers.drop(begun)
    assert (tmp_path / "outside/precious").stat().st_nlink == 1


@pytest.mark.root
def test_what_a_layer_between_took_away_is_not_found(tmp_path: Path) -> None:
    for number, between in enumerate((file(b"d/.wh.gone"), file(b".wh.d"), directory(b"d/") + file(b"d/.wh..wh..opq"))):
        snapshots = Overlay(tmp_path / f"root{number}")
        add(snapshots, 0, BELOW)
        add(snapshots, 1, between, 0)
        with pytest.raises(BadImage, match="in no layer below"):
            add(snapshots, 2, hardlink(b"c", b"d/gone"), 1)


@pytest.mark.root
def test_copies_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred layers of a few bytes must not fill a disk with copies of what one of them has."""
    monkeypatch.setattr(borrow, "MOST_BYTES", 1 << 20)
    snapshots = Overlay(tmp_path / "root")
    add(snapshots, 0, file(b"a", b"x" * (700 << 10)) + file(b"b", b"x" * (700 << 10)))
    add(snapshots, 1, hardlink(b"c", b"a") + hardlink(b"d", b"a") + hardlink(b"e", b"a"), 0)
    with pytest.raises(BadImage, match="copy too much"):
        add(snapshots, 2, hardlink(b"c", b"a") + hardlink(b"d", b"b"), 1)
