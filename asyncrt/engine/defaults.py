"""What a container gets that nobody asked for anything else: Docker's defaults, as tables.

Source: moby, daemon/pkg/oci/defaults.go (commit 23f2c12) and oci/caps/defaults.go (commit 1086671), unless a
line says otherwise.
"""

from __future__ import annotations

import functools
from pathlib import Path

from shimd.spec.config import Mount, Namespace

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WORKDIR = "/"

# Docker's fourteen. CAP_MKNOD is among them because the parent's device rules deny the opening of what a new node could
# be (supervisor/cgroups.py): `mknod /tmp/x b 8 0` works, and reading the machine's disk by it does not.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
)

# Docker leaves the cgroup namespace to the machine on cgroup v1; a container has its own here on both.
NAMESPACES = tuple(Namespace(type) for type in ("mount", "pid", "network", "ipc", "uts", "cgroup"))

MOUNTS = (
    Mount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount(
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    Mount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    # The size is --shm-size's default: daemon/config, DefaultShmSize.
    Mount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=67108864")),
)

_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",  # GHSA-6fw5-f8r9-fgfm
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # GHSA-jq35-85cj-fj4p
    "/sys/firmware",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@functools.cache
def masked_paths() -> tuple[str, ...]:
    """Docker's masked paths, with those of this machine's processors (GHSA-6fw5-f8r9-fgfm)."""
    processors = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")
    return (*_MASKED, *sorted(str(path) for path in processors))
