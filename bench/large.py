"""A large image of real files: Debian's packages in ten layers, as an OCI layout that is made once and kept.

The lowest layer is a root that debootstrap made, so that containers of the image run; the others are packages unpacked
beside each other: compilers, a JDK, Go's sources, kernel headers, Boost's 15,000 headers, Python's science. With Debian
12's packages 2.0 GiB in 65,800 entries, 660 MiB as gzip -6, which is the level that docker and buildkit use.

Standard library only, as the rest of the bench. Needs debootstrap, apt-get, dpkg-deb, GNU tar and gzip, and a mirror.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.process import BenchError, find_tool

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
GROUPS: tuple[tuple[str, ...], ...] = (
    ("libpython3.11-stdlib", "python3.11-minimal", "libpython3.11-minimal", "python3-numpy", "python3-scipy",
     "python3-pandas", "python3-matplotlib"),
    ("gcc-12", "g++-12", "cpp-12", "binutils-x86-64-linux-gnu", "binutils-common", "libbinutils", "libc6-dev",
     "libstdc++-12-dev", "linux-libc-dev", "libgcc-12-dev"),
    ("perl-modules-5.36", "libperl5.36", "git", "vim-runtime", "emacs-common", "cmake", "cmake-data"),
    ("golang-1.19-go",),
    ("golang-1.19-src",),
    ("openjdk-17-jre-headless", "openjdk-17-jdk-headless"),
    ("libllvm14", "llvm-14", "clang-14", "libclang-cpp14", "libclang-common-14-dev", "rustc", "libstd-rust-1.63"),
    ("HEADERS",),
    ("libboost1.74-dev",),
)  # fmt: skip
_HEADERS = r"^linux-headers-6\.1\.0-[0-9]+-common$"  # of the newest kernel that the mirror has
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def make(folder: Path) -> Path:
    """The layout in `folder`, made there if it is not; minutes, and 4 GiB while it is made. BenchError."""
    folder = folder.resolve()
    layout = folder / "layout"
    if (layout / "index.json").exists():
        return layout
    for tool in ("debootstrap", "apt-get", "apt-cache", "dpkg-deb", "tar", "gzip"):
        if find_tool(tool) is None:
            raise BenchError(f"make the large image: {tool} is not installed")
    shutil.rmtree(layout, ignore_errors=True)
    (layout / "blobs/sha256").mkdir(parents=True)
    tars = folder / "tars"
    if not (tars / "done").exists():
        shutil.rmtree(tars, ignore_errors=True)
        tars.mkdir(parents=True)
        _tars(folder, tars)
        (tars / "done").touch()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        layers = list(pool.map(lambda tar: _layer(tar, layout), sorted(tars.glob("*.tar"))))
    _describe(layout, [diff_id for diff_id, _ in layers], [blob for _, blob in layers])
    shutil.rmtree(tars)
    return layout


def shape(layout: Path) -> dict[str, Any]:
    """What the image has, for the report: bytes stored, layers."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(_blob(layout, index["manifests"][0]["digest"]).read_text())
    notes = index["manifests"][0]["annotations"]
    return {
        "digest": index["manifests"][0]["digest"],
        "layers": len(manifest["layers"]),
        "stored_bytes": sum(layer["size"] for layer in manifest["layers"]),
        "tar_bytes": int(notes["bench.tar-bytes"]),
        "entries": int(notes["bench.entries"]),
    }


def _tars(folder: Path, tars: Path) -> None:
    base = folder / "base"
    shutil.rmtree(base, ignore_errors=True)
    _say("debootstrap")
    _run(["debootstrap", "--variant=minbase", SUITE, str(base), MIRROR], folder)
    _tar(base, tars / "00.tar")
    shutil.rmtree(base)
    packages = folder / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    packages.mkdir()
    headers = subprocess.run(["apt-cache", "search", "--names-only", _HEADERS], capture_output=True, text=True)
    found = sorted(line.split()[0] for line in headers.stdout.splitlines())
    if not found:
        raise BenchError("make the large image: apt knows no linux-headers-6.1.0-*-common; run apt-get update")
    for number, group in enumerate(GROUPS, 1):
        names = [name if name != "HEADERS" else found[-1] for name in group]
        _say(" ".join(names))
        _run(["apt-get", "download", "-q", *names], packages)
        tree = folder / "tree"
        tree.mkdir()
        for package in sorted(packages.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(tree)], folder)
            package.unlink()
        _tar(tree, tars / f"{number:02}.tar")
        shutil.rmtree(tree)
    shutil.rmtree(packages)


def _tar(tree: Path, tar: Path) -> None:
    tree.chmod(0o755)
    _run(["tar", "-C", str(tree), "--sort=name", "--numeric-owner", "--one-file-system", "-cf", str(tar), "."], tree)


def _layer(tar: Path, layout: Path) -> tuple[str, dict[str, Any]]:
    """Press one tar into the layout: its diffID and its descriptor."""
    diff_id = _digest(tar)
    pressed = tar.with_suffix(".tar.gz")
    _run(["gzip", "-6", "-n", "-k", "-f", str(tar)], tar.parent)
    blob = _digest(pressed)
    size = pressed.stat().st_size
    pressed.rename(_blob(layout, blob))
    return diff_id, {"mediaType": _LAYER, "digest": blob, "size": size}


def _describe(layout: Path, diff_ids: list[str], layers: list[dict[str, Any]]) -> None:
    tars = layout.parent / "tars"
    entries = sum(int(_count(tar)) for tar in tars.glob("*.tar"))
    size = sum(tar.stat().st_size for tar in tars.glob("*.tar"))
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    described = _add(layout, config, _CONFIG)
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": described, "layers": layers}
    notes = {
        "org.opencontainers.image.ref.name": "1",
        "bench.tar-bytes": str(size),
        "bench.entries": str(entries),
    }
    entry = {**_add(layout, manifest, _MANIFEST), "annotations": notes}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _add(layout: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    _blob(layout, digest).write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _count(tar: Path) -> int:
    listed = subprocess.run(["tar", "-tf", str(tar)], capture_output=True, check=True)
    return listed.stdout.count(b"\n")


def _run(argv: Sequence[str], folder: Path) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise BenchError(f"run {argv[0]}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")


def _say(text: str) -> None:
    print(f"bench: large image: {text}", file=sys.stderr, flush=True)
