"""Removal of what a hostile container can leave."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.errors import StorageFailed
from asyncrt.snapshots import removal
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.sources import Source


@pytest.fixture
def overlay(tmp_path: Path) -> Overlay:
    (tmp_path / "lower").mkdir()
    overlay = Overlay(tmp_path / "root")
    overlay.prepare(["k"], Source("rootfs", str(tmp_path / "lower")), read_only=False)
    return overlay


@pytest.fixture
def upper(overlay: Overlay) -> Path:
    return overlay.directory / "k/fs"


@pytest.fixture
def few_files() -> Iterator[None]:
    """At most 100 open files: the removal must not need one a level."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def nest(top: Path, depth: int) -> None:
    """`depth` directories in each other, with a file in each; longer than any path may be."""
    directory = os.open(top, os.O_RDONLY)
    for level in range(depth):
        os.mkdir("a-directory", dir_fd=directory)
        os.close(os.open(f"file-{level}", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        below = os.open("a-directory", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


@pytest.mark.usefixtures("few_files")
def test_two_thousand_levels(overlay: Overlay, upper: Path) -> None:
    nest(upper, 2000)
    overlay.remove(["k"])
    assert overlay.keys() == []


def test_names_that_collide_with_those_of_the_removal(overlay: Overlay, upper: Path) -> None:
    nest(upper, 100)
    for n in (1, 2, 4):
        (upper.parent / f"lifted.{n}").mkdir()
        (upper.parent / f"lifted.{n}/full").mkdir()
    (upper.parent / "lifted.3").write_text("a file")
    overlay.remove(["k"])
    assert overlay.keys() == []


def test_symlinks_are_removed_not_followed(overlay: Overlay, upper: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    (upper / "directory").symlink_to(outside)
    (upper / "file").symlink_to(outside / "precious")
    (upper / "up").symlink_to("../../../../outside")
    (upper / "dangling").symlink_to("/no/such")
    overlay.remove(["k"])
    assert overlay.keys() == []
    assert (outside / "precious").read_text() == "kept"


def test_a_snapshot_that_is_a_symlink_itself(overlay: Overlay, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (overlay.directory / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageFailed, match=r"remove snapshot .*/link: (not a directory|too many levels)"):
        overlay.remove(["link"])
    assert (tmp_path / "outside").is_dir()


def test_files_and_directories_of_mode_000(overlay: Overlay, upper: Path) -> None:
    (upper / "closed/inner").mkdir(parents=True)
    (upper / "closed/inner/file").write_text("")
    (upper / "closed/inner/file").chmod(0)
    (upper / "closed/inner").chmod(0o555)
    (upper / "closed").chmod(0)
    (overlay.directory / "k/work/work").mkdir(mode=0)
    os.mkfifo(upper / "fifo")
    overlay.remove(["k"])
    assert overlay.keys() == []


@pytest.mark.root
def test_the_same_without_being_root(tmp_path: Path) -> None:
    """Root is denied nothing; rootless is to come, and the removal is ready for it."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from asyncrt.snapshots.removal import remove_tree\n"
        "os.setgid(12345); os.setuid(12345)  # after the imports: they may lie where only root may read\n"
        "top = Path(sys.argv[1]) / 'tree'\n"
        "(top / 'a/b').mkdir(parents=True)\n"
        "(top / 'a/b/file').touch()\n"
        "for path, mode in (('a/b', 0o555), ('a', 0)): (top / path).chmod(mode)\n"
        "print(remove_tree(os.open(sys.argv[1], os.O_RDONLY), 'tree', sys.argv[1]), top.exists())\n"
    )
    place = f"/tmp/asyncrt-{os.getpid()}-removal"
    os.mkdir(place)
    os.chmod(place, 0o777)
    try:
        done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True)
        assert done.stdout == "[] False\n", done.stderr
    finally:
        os.rmdir(place)


@pytest.mark.root
def test_an_immutable_file_is_named_and_the_rest_is_removed(overlay: Overlay, upper: Path) -> None:
    (upper / "d").mkdir()
    (upper / "d/stuck").write_text("")
    nest(upper, 100)
    if subprocess.run(["chattr", "+i", upper / "d/stuck"], capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(StorageFailed, match=r"k/fs/d/stuck: operation not permitted \(an immutable file\?"):
            overlay.remove(["k"])
        assert os.listdir(upper) == ["d"]
        assert overlay.keys() == ["k"]
    finally:
        subprocess.run(["chattr", "-i", upper / "d/stuck"], check=True)
    overlay.remove(["k"])
    assert overlay.keys() == []


@pytest.mark.root
def test_what_is_mounted_inside_is_kept(overlay: Overlay, upper: Path) -> None:
    (upper / "mnt").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", upper / "mnt"], check=True)
    try:
        (upper / "mnt/precious").write_text("kept")
        with pytest.raises(StorageFailed, match=r"k/fs/mnt: (another file system|invalid cross-device)"):
            overlay.remove(["k"])
        assert (upper / "mnt/precious").read_text() == "kept"
    finally:
        subprocess.run(["umount", upper / "mnt"], check=True)
    overlay.remove(["k"])


def test_every_key_is_tried_and_failures_are_counted(overlay: Overlay, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fail(parent: int, name: str, where: str) -> list[removal.Failure]:
        tried.append(name)
        return [removal.Failure(f"{where}/{name}/x", "read-only file system")] if name != "b" else []

    monkeypatch.setattr(removal, "remove_tree", fail)
    with pytest.raises(StorageFailed, match=r"/a/x: read-only file system, and 1 more failed"):
        overlay.remove(["a", "b", "c"])
    assert tried == ["a", "b", "c"]


def test_many_files(overlay: Overlay, upper: Path) -> None:
    for n in range(5000):
        (upper / f"file-{n}").touch()
    overlay.remove(["k", "k", "other"])
    assert overlay.keys() == []


def test_a_directory_that_does_not_stay_empty(overlay: Overlay, upper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where readdir passes over an entry: tried again, a bounded number of times."""
    rmdir, writes = os.rmdir, iter(range(2))

    def refilled(name: str, *, dir_fd: int) -> None:
        if name == "d" and next(writes, None) is not None:
            (upper / "d/late").touch()
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", refilled)
    (upper / "d").mkdir()
    overlay.remove(["k"])
    assert overlay.keys() == []

    overlay.prepare(["k"], Source("host", "/"), read_only=False)
    (upper / "d").mkdir()
    writes = iter(range(1000))
    with pytest.raises(StorageFailed, match="k/fs/d: directory not empty"):
        overlay.remove(["k"])
