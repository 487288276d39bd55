"""The one container of the bench, in the three shapes that engines take: a root folder, an archive, a bundle.

The root file system is busybox-static and a handful of links, about 2 MiB. The archive is what `docker
save` writes (manifest.json, one layer, one config), which docker, podman and ctr all read. The bundle's
config.json is what `runc spec` prints (1.1.5), but with a writable root, no terminal and a cgroup path.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile  # noqa: TID251  (it only writes here)
from pathlib import Path
from typing import Any

from bench.process import BenchError, find_tool

NAME = "bench.invalid/busybox:1"
SLEEP = ["sleep", "600"]
TRUE = ["true"]

_APPLETS = ("sh", "sleep", "true", "cat", "dd", "echo", "ls")
_FOLDERS = ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var")
_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_NO_PROGRAMS = ["nosuid", "noexec"]
_MOUNTS = {
    "/proc": ("proc", "proc", []),
    "/dev": ("tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    "/dev/pts": ("devpts", "devpts", [*_NO_PROGRAMS, "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    "/dev/shm": ("tmpfs", "shm", [*_NO_PROGRAMS, "nodev", "mode=1777", "size=65536k"]),
    "/dev/mqueue": ("mqueue", "mqueue", [*_NO_PROGRAMS, "nodev"]),
    "/sys": ("sysfs", "sysfs", [*_NO_PROGRAMS, "nodev", "ro"]),
    "/sys/fs/cgroup": ("cgroup", "cgroup", [*_NO_PROGRAMS, "nodev", "relatime", "ro"]),
}
_MASKED = [
    *(f"/proc/{name}" for name in ("acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "scsi")),
    *(f"/proc/{name}" for name in ("timer_stats", "sched_debug")),
    "/sys/firmware",
]
_READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]


def make_rootfs(folder: Path) -> None:
    """Lay out the root file system. Raises BenchError without a static busybox (package busybox-static)."""
    busybox = find_tool("busybox")
    if busybox is None:
        raise BenchError("make the rootfs: no busybox; install the package busybox-static")
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    shutil.copy(busybox, folder / "bin/busybox")
    if b"ld-linux" in (folder / "bin/busybox").read_bytes()[:4096]:
        raise BenchError(f"make the rootfs: {busybox} is dynamically linked; install the package busybox-static")
    for name in _APPLETS:
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")


def make_archive(rootfs: Path, archive: Path) -> None:
    """Pack the root file system as a one-layer image archive named `NAME`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
        layer.add(rootfs, arcname=".", filter=_owned_by_root)
    layer_bytes = buffer.getvalue()
    architectures = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = os.uname().machine
    config = {
        "architecture": architectures.get(machine, machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": SLEEP},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer_bytes).hexdigest()}"]},
    }
    config_bytes = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(config_bytes).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as out:
        for name, data in (
            (config_name, config_bytes),
            ("layer.tar", layer_bytes),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))


def bundle_config(root: str, cgroup: str, args: list[str]) -> str:
    """A bundle's config.json: every namespace but user, a network namespace of its own without interfaces."""
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": root, "readonly": False},
        "hostname": "bench",
        "mounts": [
            {"destination": target, "type": kind, "source": source, "options": options}
            for target, (kind, source, options) in _MOUNTS.items()
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }
    return json.dumps(config)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
