"""Snapshots on disk: made all or none, and usable as overlay layers."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from asyncrt.errors import BadRequest, StorageFailed
from asyncrt.snapshots import removal
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.sources import Source
from shimd.wire.messages import RootMount


@pytest.fixture
def source(tmp_path: Path) -> Source:
    lower = tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/hostname").write_text("lower\n")
    return Source("rootfs", str(lower))


def test_one_mount_a_key_in_their_order(tmp_path: Path, source: Source) -> None:
    overlay = Overlay(tmp_path / "root")
    mounts = overlay.prepare(["b", "a"], source, read_only=True)
    place = f"{tmp_path}/root/snapshots"
    assert mounts == [
        RootMount("overlay", [source.path], f"{place}/{key}/fs", f"{place}/{key}/work", True) for key in "ba"
    ]
    assert sorted(overlay.keys()) == ["a", "b"]
    for directory in (place, f"{place}/a", f"{place}/a/work"):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    overlay.remove(["a", "b"])
    assert overlay.keys() == []


@pytest.mark.parametrize("mode", [0o755, 0o1777, 0o2750, 0o500])
def test_the_root_looks_as_in_the_image(tmp_path: Path, source: Source, mode: int) -> None:
    os.chmod(source.path, mode)
    umask = os.umask(0o077)
    try:
        (mount,) = Overlay(tmp_path / "root").prepare(["k"], source, read_only=False)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(mount.upper).st_mode) == mode


@pytest.mark.root
def test_the_roots_owner_is_the_images(tmp_path: Path, source: Source) -> None:
    os.chown(source.path, 1000, 1001)
    (mount,) = Overlay(tmp_path / "root").prepare(["k"], source, read_only=False)
    status = os.stat(mount.upper)
    assert (status.st_uid, status.st_gid) == (1000, 1001)


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "../x", ".hidden", "a\0b", "k" * 200])
def test_a_key_never_leaves_the_directory(tmp_path: Path, source: Source, bad: str) -> None:
    overlay = Overlay(tmp_path / "root")
    for deed in (
        lambda: overlay.prepare(["good", bad], source, read_only=False),
        lambda: overlay.remove([bad]),
        lambda: overlay.usage(bad),
    ):
        with pytest.raises(BadRequest, match="that is no key"):
            deed()
    assert overlay.keys() == []


def test_all_or_none(tmp_path: Path, source: Source) -> None:
    overlay = Overlay(tmp_path / "root")
    overlay.prepare(["there"], source, read_only=False)
    with pytest.raises(StorageFailed, match=r"prepare snapshot .*/there: file exists"):
        overlay.prepare(["x", "y", "there", "z"], source, read_only=False)
    assert overlay.keys() == ["there"]


def test_what_could_not_be_undone_is_named(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = Overlay(tmp_path / "root")
    overlay.prepare(["there"], source, read_only=False)
    failure = removal.Failure(f"{tmp_path}/root/snapshots/x", "input/output error")
    monkeypatch.setattr(removal, "remove_tree", lambda *_: [failure])
    with pytest.raises(StorageFailed, match=r"file exists; and what was made is left: .*/x: input/output error"):
        overlay.prepare(["x", "there"], source, read_only=False)


def test_a_source_that_went_away(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "root")
    with pytest.raises(StorageFailed, match="read image /no/such: no such file or directory"):
        overlay.prepare(["x"], Source("rootfs", "/no/such"), read_only=False)
    assert overlay.keys() == []


def test_nothing_was_ever_prepared(tmp_path: Path) -> None:
    overlay = Overlay(tmp_path / "no")
    overlay.remove(["x"])
    assert overlay.keys() == []
    with pytest.raises(StorageFailed, match=r"measure snapshot .*/x: no such file or directory"):
        overlay.usage("x")


def test_usage(tmp_path: Path, source: Source) -> None:
    overlay = Overlay(tmp_path / "root")
    (mount,) = overlay.prepare(["k"], source, read_only=False)
    upper = Path(mount.upper)
    empty = overlay.usage("k")
    assert (empty.inodes, empty.complete) == (1, True)
    (upper / "d").mkdir()
    (upper / "d/file").write_bytes(os.urandom(100_000))
    (upper / "d/again").hardlink_to(upper / "d/file")
    (upper / "out").symlink_to("/usr")
    used = overlay.usage("k")
    assert used.inodes == 4
    assert 100_000 <= used.bytes <= 130_000
    os.makedirs(upper / "/".join(["n"] * 50))
    assert not overlay.usage("k").complete


def test_supported_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    Overlay.supported()
    monkeypatch.setattr(Path, "read_text", lambda _: "nodev\tproc\n\text4\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    with pytest.raises(StorageFailed, match=r"this kernel has no overlay file system \(load the module"):
        Overlay.supported()


MOUNTED = """
set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
cat "$4/etc/hostname"
echo upper > "$4/etc/hostname"
cat "$4/etc/hostname"
rm -r "$4/etc"
mkdir "$4/etc"
stat -c %a "$4"
umount "$4"
"""


@pytest.mark.root
def test_a_real_overlay_is_mounted_on_it_and_removed_after_use(tmp_path: Path, source: Source) -> None:
    overlay = Overlay(tmp_path / "root")
    os.chmod(source.path, 0o711)
    (mount,) = overlay.prepare(["k"], source, read_only=False)
    target = tmp_path / "mnt"
    target.mkdir()
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh"]
    arguments = [mount.lower[0], mount.upper, mount.work, str(target)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "lower\nupper\n711\n"), done.stderr
    assert (Path(source.path) / "etc/hostname").read_text() == "lower\n"
    # What overlayfs leaves: a work/work of mode 000, whiteouts, opaque directories.
    assert stat.S_IMODE(os.stat(f"{mount.work}/work").st_mode) == 0
    overlay.remove(["k"])
    assert overlay.keys() == []


@pytest.mark.root
def test_the_machines_own_root_can_be_the_lower(tmp_path: Path) -> None:
    """The snapshot lies inside its own lower layer then; overlayfs allows that way round."""
    overlay = Overlay(tmp_path / "root")
    (mount,) = overlay.prepare(["k"], Source("host", "/"), read_only=False)
    target = tmp_path / "mnt"
    target.mkdir()
    options = "lowerdir=$1,upperdir=$2,workdir=$3"
    script = f'mount -t overlay overlay -o "{options}" "$4" && touch "$4/new" && ls "$4/etc/passwd"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
    arguments = [mount.lower[0], mount.upper, mount.work, str(target)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.listdir(mount.upper) == ["new"]
    overlay.remove(["k"])
