"""A copied tree is the tree: everything that can be told of every path."""

import os
import stat
from pathlib import Path

import pytest

from asyncrt.snapshots.copying import copy_tree
from tests.asyncrt.layers.trees import look, plant


def copy(origin: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    old, new = os.open(origin, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        copy_tree(old, new)
    finally:
        os.close(old)
        os.close(new)


def test_a_copy_is_the_same(tmp_path: Path) -> None:
    root = os.geteuid() == 0
    plant(tmp_path / "tree", owners=root, devices=root)
    copy(tmp_path / "tree", tmp_path / "copy")
    expected = look(tmp_path / "tree")
    assert look(tmp_path / "copy") == {n: s for n, s in expected.items() if not stat.S_ISSOCK(int(s.mode, 8))}
    assert (tmp_path / "copy/sparse").stat().st_blocks * 512 < 1 << 20
    (tmp_path / "copy/hard").write_text("changed")
    assert (tmp_path / "tree/dir/file").read_bytes() == b"hello"


def test_symlinks_are_copied_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("kept")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/out").symlink_to(tmp_path / "outside")
    copy(tmp_path / "tree", tmp_path / "copy")
    assert (tmp_path / "copy/out").readlink() == tmp_path / "outside"
    with pytest.raises(FileExistsError):  # into a tree that is not empty nothing is copied over
        copy(tmp_path / "tree", tmp_path / "copy")
    assert (tmp_path / "outside/precious").read_text() == "kept"
