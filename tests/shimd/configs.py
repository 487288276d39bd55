"""Documents for the stage: the usual config.json, with what a test wants otherwise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE", "MKNOD"),
    )
]
NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")
SAFE = ["nosuid", "noexec", "nodev"]
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": [*SAFE, "mode=1777", "size=65536k"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SAFE},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
    {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*SAFE, "ro"]},
]
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def config(
    *args: str,
    namespaces: Sequence[str | dict[str, str]] = NAMESPACES,
    mounts: Sequence[dict[str, Any]] = MOUNTS,
    process: dict[str, Any] | None = None,
    linux: dict[str, Any] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """The usual config.json for a command; `process`, `linux` and the rest replace single properties."""
    return {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": process_of(*args, **(process or {})),
        "mounts": list(mounts),
        "linux": {
            "namespaces": [{"type": entry} if isinstance(entry, str) else entry for entry in namespaces],
            "resources": {},
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            **(linux or {}),
        },
        **top,
    }


def process_of(*args: str, **changes: Any) -> dict[str, Any]:
    """The spec's process object, for a config or an exec."""
    return {
        "cwd": "/",
        "args": list(args),
        "env": ["PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        **changes,
    }


def shell(script: str, **changes: Any) -> dict[str, Any]:
    """The usual config for a line of shell."""
    return config("sh", "-c", script, **changes)


def mount(kind: str, source: Path | str, destination: str, *options: str, **more: Any) -> dict[str, Any]:
    """An entry of `mounts`."""
    return {"destination": destination, "type": kind, "source": str(source), "options": list(options), **more}


def maps(first: int, size: int = 65536) -> dict[str, Any]:
    """uidMappings and gidMappings, of a user namespace or a mount."""
    rows = [{"containerID": 0, "hostID": first, "size": size}]
    return {"uidMappings": rows, "gidMappings": rows}
