"""spec: a config.json to begin with, accepted by any runtime."""

import os
from typing import Any

from shimd.command.context import Context
from shimd.command.flags import text
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.spec import text as json

# The version of the spec that the document needs; older runtimes refuse a newer one.
NEEDED = "1.0.2"
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
NAMESPACES = ["pid", "network", "ipc", "uts", "mount"]
if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
    NAMESPACES.append("cgroup")  # on v1 it is not usual, and callers that want it add it
SAFE = ["nosuid", "noexec", "nodev"]
MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
    *("/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def main(context: Context) -> int:
    place = text(context.values, "bundle") or "."
    path = os.path.join(place, "config.json")
    document = rootless() if context.values["rootless"] else usual()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        cause = "file config.json exists. Remove it first"
        raise RuntimeTrouble(Trouble("write", path, cause, errno=17)) from None
    except OSError as error:
        raise RuntimeTrouble(from_oserror("write", path, error)) from None
    try:
        os.write(fd, json.write_lines(document).encode() + b"\n")
    finally:
        os.close(fd)
    return 0


def usual() -> dict[str, Any]:
    """A shell with a terminal, few capabilities, and namespaces of its own."""
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    return {
        "ociVersion": NEEDED,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(CAPABILITIES) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "asyncrt",
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", pts),
            _mount("/dev/shm", "tmpfs", [*SAFE, "mode=1777", "size=65536k"], "shm"),
            _mount("/dev/mqueue", "mqueue", SAFE),
            _mount("/sys", "sysfs", [*SAFE, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", [*SAFE, "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    }


def rootless() -> dict[str, Any]:
    """For who has one id and no right to another: a user namespace, the machine's network and its /sys by a bind."""
    document = usual()
    linux = document["linux"]
    kinds = [kind for kind in NAMESPACES if kind != "network"]
    linux["namespaces"] = [{"type": kind} for kind in (*kinds, "user")]
    linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    del linux["resources"]
    mounts = []
    for mount in document["mounts"]:
        # gid=5 has no id inside, and a sysfs belongs to the network namespace that it is of
        options = [option for option in mount.get("options", ()) if not option.startswith("gid=")]
        if mount["destination"] == "/sys":
            mount, options = _mount("/sys", "none", source="/sys"), ["rbind", *SAFE, "ro"]
        if mount["destination"] == "/sys/fs/cgroup":
            continue
        mounts.append({**mount, "options": options} if options else mount)
    document["mounts"] = mounts
    return document


def _mount(destination: str, kind: str, options: list[str] | None = None, source: str = "") -> dict[str, Any]:
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source or kind}
    return {**mount, "options": list(options)} if options else mount
