"""Trees to layers and back: the same tree, the same bytes, and what others make of them."""

import os
import shutil
import stat
import subprocess
import tarfile  # noqa: TID251 - as a judge
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.layers.changes import of_trees, of_upper, write
from asyncrt.layers.deflate import Written
from asyncrt.layers.inflate import Form
from asyncrt.layers.walk import walk
from asyncrt.model.digest import Digest
from tests.asyncrt.layers.tars import names, read, unpack
from tests.asyncrt.layers.trees import Seen, look, plant

AS_ROOT = os.geteuid() == 0


def pack(tree: Path, before: Path | None = None, form: Form = "plain", upper: bool = False) -> tuple[bytes, Written]:
    parts: list[bytes] = []
    after = os.open(tree, os.O_RDONLY)
    old = None if before is None else os.open(before, os.O_RDONLY)
    try:
        written = of_upper(after, parts.append, form) if upper else of_trees(old, after, parts.append, form)
    finally:
        os.close(after)
        if old is not None:
            os.close(old)
    return b"".join(parts), written


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    plant(tmp_path / "tree", owners=AS_ROOT, devices=AS_ROOT)
    return tmp_path / "tree"


def told(tree: Path) -> dict[str, Seen]:
    """What a layer can say of a tree: all but its sockets."""
    return {name: seen for name, seen in look(tree).items() if not stat.S_ISSOCK(int(seen.mode, 8))}


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_a_tree_comes_back_as_it_was(tree: Path, tmp_path: Path, form: Form) -> None:
    data, written = pack(tree, form=form)
    assert (written.size, written.digest) == (len(data), Digest.of(data))
    applied = unpack(data, tmp_path / "again", digest=written.digest, diff_id=written.diff_id)
    assert applied.size == written.tar_size
    assert look(tmp_path / "again") == told(tree)
    assert pack(tmp_path / "again", form=form)[0] == data


def test_holes_are_zeros_in_a_layer_and_holes_for_a_reader_of_ours(tree: Path, tmp_path: Path) -> None:
    """docker and podman read sparse entries and cannot write such a layer again."""
    plain, _ = pack(tree)
    parts: list[bytes] = []
    directory = os.open(tree, os.O_RDONLY)
    try:
        write(walk(directory), parts.append, "plain", holes=True)
    finally:
        os.close(directory)
    ours = b"".join(parts)
    assert (b"GNU.sparse" in plain, b"GNU.sparse" in ours) == (False, True)
    unpack(ours, tmp_path / "again")
    assert look(tmp_path / "again")["sparse"] == told(tree)["sparse"]
    assert (tmp_path / "again/sparse").stat().st_blocks * 512 < 1 << 20


def test_a_wrong_digest_or_diff_id_is_refused(tree: Path, tmp_path: Path) -> None:
    data, written = pack(tree, form="gzip")
    for expected in ({"digest": written.diff_id}, {"diff_id": written.digest}):
        with pytest.raises(BadImage, match="check layer"):
            unpack(data, tmp_path / "again", **expected)
        shutil.rmtree(tmp_path / "again")


@pytest.mark.parametrize("at", [12, 1000, -14, -1])
@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_blob_that_is_cut_or_damaged_is_refused(tree: Path, tmp_path: Path, form: Form, at: int) -> None:
    data, _ = pack(tree, form=form)
    damaged = bytearray(data)
    damaged[at] ^= 0x10
    for bad in (data[:at], bytes(damaged)):
        with pytest.raises(BadImage):
            unpack(bad, tmp_path / "again", diff_id=pack(tree)[1].diff_id)
        shutil.rmtree(tmp_path / "again", ignore_errors=True)


def test_blobs_of_several_parts(tree: Path, tmp_path: Path) -> None:
    """gzip members, zstd frames and skippable frames, as pigz, estargz and zstd:chunked write them."""
    import gzip

    import zstandard

    tar, written = pack(tree)
    cuts = [tar[at : at + 100_000] for at in range(0, len(tar), 100_000)]
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    for number, data in enumerate(
        (
            b"".join(gzip.compress(cut, 1) for cut in cuts) + bytes(512),
            b"".join(zstandard.compress(cut, 1) + skippable for cut in cuts),
            skippable + zstandard.compress(tar, 19),
            zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(tar),
        )
    ):
        unpack(data, tmp_path / str(number), diff_id=written.diff_id)
    for bad in (gzip.compress(tar) + b"something else", zstandard.compress(tar) + b"something else"):
        with pytest.raises(BadImage, match="that is no"):
            unpack(bad, tmp_path / "bad")


def test_what_changed_between_two_trees(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    for name in ("a", "b", "c", "gone/x/y", "kept/same", "kept/other", "file-to-dir", "dir-to-file/x", "zlast"):
        (before / name).parent.mkdir(parents=True, exist_ok=True)
        (before / name).write_text(name)
    shutil.copytree(before, after, symlinks=True)
    for path in before.rglob("*"):
        os.utime(after / path.relative_to(before), ns=(0, path.stat().st_mtime_ns))
    os.utime(after, ns=(0, before.stat().st_mtime_ns))
    os.utime(before / "a", ns=(0, 10**9))
    (after / "a").write_text("A")
    os.utime(after / "a", ns=(0, 10**9))  # only its bytes tell
    os.chmod(after / "b", 0o600)
    (after / "new").mkdir()
    (after / "new/deep").mkdir()
    (after / "new/deep/file").write_text("new")
    shutil.rmtree(after / "gone")
    (after / "file-to-dir").unlink()
    (after / "file-to-dir").mkdir()
    (after / "file-to-dir/x").touch()
    shutil.rmtree(after / "dir-to-file")
    (after / "dir-to-file").touch()
    os.utime(after, ns=(0, before.stat().st_mtime_ns))
    data, _ = pack(after, before)
    listed = [os.fsdecode(entry.name) for entry, _ in read(data)]
    assert listed == [
        "a",
        "b",
        "dir-to-file",
        "file-to-dir",
        "file-to-dir/x",
        ".wh.gone",
        "new",
        "new/deep",
        "new/deep/file",
    ]
    unpack(data, before, "remove")
    assert look(before) == look(after)


def test_two_trees_that_are_the_same(tree: Path) -> None:
    assert read(pack(tree, tree)[0]) == []


def test_an_upper_that_is_no_layer_by_itself(tmp_path: Path) -> None:
    (tmp_path / "upper/d").mkdir(parents=True)
    os.setxattr(tmp_path / "upper/d", "user.overlay.redirect", b"/e")
    with pytest.raises(StorageFailed, match=r"redirect_dir or metacopy.*\(mount with redirect_dir=off"):
        pack(tmp_path / "upper", upper=True)


def test_a_path_that_no_reader_takes(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=directory)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    with pytest.raises(BadImage, match="longer than any reader"):
        pack(tmp_path)
    subprocess.run(["rm", "-r", tmp_path / ("d" * 250)], check=True)


# Judges


def by_gnu_tar(data: bytes, place: Path) -> None:
    place.mkdir()
    arguments = ["tar", "-C", str(place), "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"]
    subprocess.run(arguments, input=data, check=True)


def by_python(data: bytes, place: Path) -> None:
    place.mkdir()
    layer = place.with_suffix(".tar")
    layer.write_bytes(data)
    with tarfile.open(layer) as archive:
        archive.extractall(place, numeric_owner=True, filter="fully_trusted")


@pytest.mark.root
@pytest.mark.parametrize("judge", [by_gnu_tar, by_python])
def test_others_read_what_we_write(tree: Path, tmp_path: Path, judge: Callable[[bytes, Path], None]) -> None:
    if judge is by_gnu_tar and "GNU" not in subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout:
        pytest.skip("needs GNU tar")
    judge(pack(tree)[0], tmp_path / "theirs")
    ours, theirs = told(tree), look(tmp_path / "theirs")
    if judge is by_python:  # it knows no xattrs, no times below a microsecond, and follows hardlinked symlinks
        ours, theirs = ({name: plain(seen) for name, seen in found.items()} for found in (ours, theirs))
    assert theirs == ours


def plain(seen: Seen) -> Seen:
    """What is left where xattrs and fractions are not told, nor times and hardlinks of symlinks (Python's tarfile)."""
    seen = seen._replace(xattrs=(), mtime_ns=seen.mtime_ns // 10**9)
    return seen._replace(links=(), mtime_ns=0) if stat.S_ISLNK(int(seen.mode, 8)) else seen


@pytest.mark.root
@pytest.mark.parametrize(
    "flags", ["--format=gnu", "--format=posix", "--format=posix --sparse", "--format=gnu --sparse"]
)
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_we_read_what_gnu_tar_writes(tree: Path, tmp_path: Path, flags: str, version: str) -> None:
    if "GNU" not in subprocess.run(["tar", "--version"], capture_output=True, text=True, check=False).stdout:
        pytest.skip("needs GNU tar")
    if version != "1.0" and flags != "--format=posix --sparse":
        pytest.skip("one form of sparse files is enough elsewhere")
    os.unlink(tree / "socket")
    if "posix" not in flags:
        os.chown(tree / "dir/empty", 3_000_000, 40_000)  # gnu's own numbers go up to 2^21, then base 256
    xattrs = ["--xattrs", "--xattrs-include=*"] if "posix" in flags else []
    sparse = [f"--sparse-version={version}"] if "--sparse" in flags and "posix" in flags else []
    arguments = [
        "tar",
        "-C",
        str(tree),
        "--numeric-owner",
        "--sort=name",
        *flags.split(),
        *xattrs,
        *sparse,
        "-cf",
        "-",
        ".",
    ]
    data = subprocess.run(arguments, check=True, capture_output=True).stdout
    unpack(data, tmp_path / "ours")
    ours, theirs = look(tmp_path / "ours"), told(tree)
    if "posix" not in flags:
        ours, theirs = ({name: plain(seen) for name, seen in found.items()} for found in (ours, theirs))
    assert ours == theirs


@pytest.mark.root
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_we_read_what_python_writes(tree: Path, tmp_path: Path, form: int) -> None:
    os.unlink(tree / "socket")
    if form == tarfile.USTAR_FORMAT:
        for name in ("n" * 120, "zhard", "dangling", "hardsymlink", "big"):
            subprocess.run(["rm", "-r", tree / name], check=True)
        os.chown(tree / "dir/empty", 1, 2)
        os.utime(tree, ns=(0, 10**18))
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w", format=form, errors="surrogateescape") as archive:
        archive.add(tree, ".")
    unpack(layer.read_bytes(), tmp_path / "ours")
    ours, theirs = ({n: plain(s) for n, s in found.items()} for found in (look(tmp_path / "ours"), told(tree)))
    assert ours == theirs


@pytest.mark.root
def test_the_upper_of_an_overlay(tmp_path: Path) -> None:
    """What the kernel itself writes when things are removed, replaced, renamed and changed."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    lower, merged = tmp_path / "lower", tmp_path / "merged"
    for path in ("a/1", "a/2", "b/1", "c/1", "d", "e", "f/deep/er/1"):
        (lower / path).parent.mkdir(parents=True, exist_ok=True)
        (lower / path).write_text(path)
    options = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work,redirect_dir=off,metacopy=off"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
    try:
        (merged / "a/1").unlink()
        shutil.rmtree(merged / "b")
        (merged / "b").mkdir()
        (merged / "b/new").write_text("new")
        shutil.rmtree(merged / "c")
        (merged / "d").unlink()
        (merged / "d").symlink_to("e")
        os.link(merged / "e", merged / "e2")
        os.chmod(merged / "f/deep", 0o700)
        os.utime(merged, ns=(0, 5))
        expected = look(merged)
        data, _ = pack(tmp_path / "upper", upper=True)
    finally:
        subprocess.run(["umount", merged], check=True)
    listed = {os.fsdecode(entry.name) for entry, _ in read(data)}
    assert {"a/.wh.1", "b", "b/.wh..wh..opq", "b/new", ".wh.c", "d", "e", "e2", "f/deep"} <= listed
    assert not [name for name in listed if name.startswith("f/deep/")]
    unpack(data, lower, "remove")
    os.utime(lower, ns=(0, 5))
    assert look(lower) == expected
    # And stacked again, as the next container would see it.
    unpack(data, tmp_path / "layer", "overlay")
    options = f"lowerdir={tmp_path}/layer:{lower}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
    try:
        assert {n: s._replace(links=()) for n, s in look(merged, root=False).items()} == {
            n: s._replace(links=()) for n, s in expected.items() if n != "."
        }
    finally:
        subprocess.run(["umount", merged], check=True)
    assert names(tmp_path / "layer")
