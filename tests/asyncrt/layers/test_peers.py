"""Layers that umoci and buildah wrote, unpacked by us and by umoci: the same trees, path by path."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.asyncrt.layers.tars import directory, file, hardlink, header, pax, symlink, unpack
from tests.asyncrt.layers.test_changes import pack
from tests.asyncrt.layers.trees import CAPABILITY, Seen, look, plant

pytestmark = pytest.mark.root


def run(*arguments: object, **options: object) -> str:
    done = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def blobs(layout: Path) -> list[Path]:
    """The layers of the layout's one image, the lowest first."""

    def at(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(at(index["manifests"][-1]["digest"]).read_text())
    return [at(layer["digest"]) for layer in manifest["layers"]]


def ours(layout: Path, place: Path) -> dict[str, Seen]:
    for blob in blobs(layout):
        unpack(blob.read_bytes(), place, "remove")
    return look(place)


def theirs(layout: Path, place: Path) -> dict[str, Seen]:
    run("umoci", "unpack", "--image", f"{layout}:latest", place)
    return look(place / "rootfs")


def without_sockets(found: dict[str, Seen]) -> dict[str, Seen]:
    return {name: seen for name, seen in found.items() if not stat.S_ISSOCK(int(seen.mode, 8))}


# (0.4.7, in Go: it follows Go's reader, which rounds nothing)
LAYERS: list[Callable[[], bytes]] = [
    lambda: (
        directory(b"./", mode=0o755, mtime=1)
        + directory(b"usr/", mtime=2)
        + directory(b"usr/lib/", mode=0o711, mtime=3)
        + file(b"usr/lib/a", b"a" * 5000, mode=0o4755, uid=5, gid=6, mtime=4)
        + hardlink(b"usr/lib/b", b"usr/lib/a")
        + symlink(b"lib", b"usr/lib")
        + header(b"dev-null", b"3", mode=0o666, major=1, minor=3, mtime=5)
        + header(b"fifo", b"6", mode=0o600, mtime=6)
        + directory(b"var/", mode=0o1777, mtime=7)
        + file(b"var/x", b"x", mtime=8)
        + directory(b"var/d/", mtime=9)
        + file(b"var/d/y", b"y", mtime=10)
        + pax((b"SCHILY.xattr.security.capability", CAPABILITY), (b"SCHILY.xattr.user.a", b"1"))
        + file(b"ping", b"ping", mode=0o755, mtime=11)
        + bytes(1024)
    ),
    lambda: (
        directory(b"usr/", mode=0o700, mtime=12)
        + file(b"usr/lib/.wh.b", mtime=13)
        + directory(b"var/", mtime=14)
        + file(b"var/.wh..wh..opq", mtime=15)
        + file(b"var/new", b"new", mtime=16)
        + file(b".wh.fifo", mtime=17)
        + file(b"lib/through-a-symlink", b"!", mtime=18)
        + bytes(1024)
    ),
]


def test_a_stack_of_layers_as_umoci_unpacks_it(tmp_path: Path) -> None:
    need("umoci")
    layout = tmp_path / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:latest")
    for number, make in enumerate(LAYERS):
        (tmp_path / f"{number}.tar").write_bytes(make())
        run("umoci", "raw", "add-layer", "--image", f"{layout}:latest", tmp_path / f"{number}.tar")
    found = ours(layout, tmp_path / "ours")
    assert "usr/lib/through-a-symlink" in found
    expected = theirs(layout, tmp_path / "theirs")
    # umoci does not put back the time of a directory that it reached through a symlink.
    for mapping in (found, expected):
        mapping["usr/lib"] = mapping["usr/lib"]._replace(mtime_ns=0)
    assert found == expected


def test_our_diff_as_umoci_unpacks_it(tmp_path: Path) -> None:
    need("umoci")
    plant(tmp_path / "tree", owners=True)
    layout = tmp_path / "layout"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:latest")
    (tmp_path / "layer.tar").write_bytes(pack(tmp_path / "tree")[0])
    run("umoci", "raw", "add-layer", "--image", f"{layout}:latest", tmp_path / "layer.tar")
    assert theirs(layout, tmp_path / "theirs") == without_sockets(look(tmp_path / "tree"))


def test_what_umoci_repacks(tmp_path: Path) -> None:
    need("umoci")
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:latest")
    run("umoci", "unpack", "--image", f"{layout}:latest", bundle)
    shutil.rmtree(bundle / "rootfs")
    plant(bundle / "rootfs", owners=True)
    os.unlink(bundle / "rootfs/socket")
    run("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:latest", bundle)
    shutil.rmtree(bundle / "rootfs/n" if (bundle / "rootfs/n").exists() else bundle / ("rootfs/" + "n" * 120))
    (bundle / "rootfs/dir/file").unlink()
    (bundle / "rootfs/dir/more").write_text("more")
    run("umoci", "repack", "--image", f"{layout}:latest", bundle)
    assert len(blobs(layout)) == 2
    assert ours(layout, tmp_path / "ours") == theirs(layout, tmp_path / "theirs")


def test_what_buildah_commits(tmp_path: Path) -> None:
    need("buildah")
    plant(tmp_path / "tree", owners=True, devices=False)
    os.unlink(tmp_path / "tree/socket")
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "HOME": str(tmp_path)}
    common = ["buildah", "--root", tmp_path / "storage", "--runroot", tmp_path / "run"]
    (tmp_path / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    layout = tmp_path / "layout"
    try:
        name = run(*common, "from", "scratch", env=environment).strip()
        mounted = Path(run(*common, "mount", name, env=environment).strip())
        run("cp", "-a", f"{tmp_path}/tree/.", mounted)
        expected = look(mounted)
        policy = ["--signature-policy", tmp_path / "policy.json"]
        run(*common, "commit", *policy, name, f"oci:{layout}:latest", env=environment)
        run(*common, "rm", name, env=environment)
    finally:
        subprocess.run(["umount", "-q", tmp_path / "storage/vfs"], check=False)
        subprocess.run(["umount", "-q", tmp_path / "storage"], check=False)
    found = ours(layout, tmp_path / "ours")
    for mapping in (found, expected):  # its layer says nothing of the root
        mapping["."] = mapping["."]._replace(mtime_ns=0)
    # buildah's own choice: times in whole seconds, and none of user.* xattrs.
    both = ({n: s._replace(xattrs=(), mtime_ns=s.mtime_ns // 10**9) for n, s in f.items()} for f in (found, expected))
    assert next(both) == next(both)
    expected = theirs(layout, tmp_path / "theirs")
    expected["."] = expected["."]._replace(mtime_ns=0)
    assert expected == found
