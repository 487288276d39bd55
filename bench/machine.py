"""The ground under the bench: private namespaces, a cgroup parent of its own, and the facts of the host.

Everything is run in a private mount namespace (propagation private) with its own /run, and in a private
network namespace: mounts, sockets and links that an engine forgets (docker0, podman0) end with the run. In
it /sys/fs/cgroup/unified is unmounted, since crun and podman refuse the hybrid layout of cgroups.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import time
from pathlib import Path

from bench.process import BenchError

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 0x4000, 1 << 18
_MNT_DETACH = 2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_CGROUPS = Path("/sys/fs/cgroup")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.unshare.argtypes = [ctypes.c_int]
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError with the target's path."""
    kind_bytes = kind.encode() if kind else None
    _check(_libc.mount(source.encode(), target.encode(), kind_bytes, flags, data.encode()), target)


def umount(target: str) -> None:
    """umount2(2), lazily. Raises OSError with the target's path."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), target)


def enter_private_namespaces() -> int:
    """Leave the host's mount and network namespaces; returns an fd of the host's mount namespace.

    Call it before any thread exists: unshare(2) moves the calling thread only.
    """
    host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "mount and network namespace")
    mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    mount("tmpfs", "/run", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    unified = _CGROUPS / "unified"
    if unified.is_mount():
        umount(str(unified))
    return host


def raise_loopback() -> None:
    """Bring up the loopback link of the network namespace that this process is in (netdevice(7))."""
    with socket.socket() as one:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(one, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def cgroup_roots() -> list[Path]:
    """The mounted hierarchies: one for v2, one for every v1 controller."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    if not _CGROUPS.is_dir():
        return []
    return [path for path in sorted(_CGROUPS.iterdir()) if path.is_mount() and not path.is_symlink()]


def remove_cgroups(parent: str, timeout: float = 5.0) -> list[str]:
    """rmdir the bench's own parent in every hierarchy, deepest first; returns what could not be removed.

    Retries for `timeout` seconds: a cgroup is busy until its last, already killed, process is reaped.
    """
    deadline = time.monotonic() + timeout
    while True:
        stuck: list[str] = []
        for root in cgroup_roots():
            for folder, _, _ in os.walk(root / parent.strip("/"), topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        stuck.append(folder)
        if not stuck or time.monotonic() > deadline:
            return stuck
        time.sleep(0.1)


def cgroups_below(parent: str) -> list[str]:
    """The cgroups that exist below the bench's own parent, the parents of the peers not counted."""
    found: list[str] = []
    for root in cgroup_roots():
        own = root / parent.strip("/")
        for folder, _, _ in os.walk(own):
            if len(Path(folder).relative_to(own).parts) > 1:
                found.append(folder)
    return found


def cgroup_paths(pid: int) -> list[str]:
    """Where in the mounted hierarchies a process is, the roots left out (cgroups(7)); [] once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []
    found: list[str] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=") or "unified"
        for base in (_CGROUPS / name, _CGROUPS):
            if path != "/" and (base / path.strip("/")).is_dir():
                found.append(str(base / path.strip("/")))
                break
    return found


def mounts_below(folder: Path) -> list[str]:
    """Mount points below `folder` in the bench's own mount namespace."""
    points = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{folder}/")]


def facts() -> dict[str, str | int | bool]:
    """What a reader of the figures must know about the host. Memory in KiB."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu_model": models[0].split(":", 1)[1].strip() if models else "unknown",
        "memory_kib": int(memory.split()[1]),
        "cgroups": "v2" if (_CGROUPS / "cgroup.controllers").exists() else "v1",
        "python": platform.python_version(),
        "rcu_expedited": _read("/sys/kernel/rcu_expedited") == "1",
    }


def require_root() -> None:
    """Raises BenchError without root: namespaces, mounts and daemons need it."""
    if os.geteuid() != 0:
        raise BenchError("start the bench: not root; namespaces, mounts and the peers' daemons need it")


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _check(result: int, subject: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
