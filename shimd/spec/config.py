"""``config.json`` for Linux (runtime-spec 1.3, config.md): the door of this room for its readers and writers.

Fields are the spec's properties in snake_case. An absent property is the field's default; where absent and
empty mean different things the default is None. Every type is a frozen tuple; maps are read-only.

    Config(oci_version="1.3.0", root=Root("rootfs"), process=Process(cwd="/", args=("sh",)))
"""

from typing import NamedTuple

from shimd.spec.linux import (
    Device,
    IdMapping,
    IntelRdt,
    Linux,
    MemoryPolicy,
    Namespace,
    NetDevice,
    Personality,
    Seccomp,
    SeccompArg,
    SeccompRule,
    TimeOffset,
)
from shimd.spec.resources import (
    BlockIo,
    Cpu,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from shimd.spec.scalars import NO_STRINGS, Id, Int32, Int64, StringMap, Uint16, Uint32, Uint64

OCI_VERSION = "1.3.0"


class ConsoleSize(NamedTuple):
    """``process.consoleSize``, in characters; the kernel's struct winsize holds 16 bits of each."""

    height: Uint16
    width: Uint16


class User(NamedTuple):
    """POSIX-platform User: ids inside the container. ``umask`` None leaves the runtime's default."""

    uid: Id
    gid: Id
    umask: Uint32 | None = None
    additional_gids: tuple[Id, ...] = ()
    username: str = ""


class Capabilities(NamedTuple):
    """Linux Process, ``capabilities``: five sets of names such as CAP_CHOWN."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(NamedTuple):
    """POSIX process, ``rlimits[]``: units are setrlimit(2)'s; 2**64-1 is RLIM_INFINITY."""

    type: str
    soft: Uint64
    hard: Uint64


class Scheduler(NamedTuple):
    """Linux Process, ``scheduler``: sched_setattr(2). Runtime, deadline and period in nanoseconds, None: not given."""

    policy: str
    nice: Int32 = 0
    priority: Int32 = 0
    flags: tuple[str, ...] = ()
    runtime: Uint64 | None = None
    deadline: Uint64 | None = None
    period: Uint64 | None = None


class IoPriority(NamedTuple):
    """Linux Process, ``ioPriority``: ioprio_set(2). JSON's ``class``; priority 0 (first) to 7 (last).

    The text requires a priority, the published schema does not, and the idle class has no levels: left out it is 0.
    """

    class_: str
    priority: Int32 = 0


class CpuAffinity(NamedTuple):
    """Linux Process, ``execCPUAffinity`` (1.2.1): CPU lists for an exec, before and in its cgroup."""

    initial: str = ""
    final: str = ""


class Process(NamedTuple):
    """Process: what runs, as root where no user is given.

    ``capabilities`` None leaves the sets as they are, empty sets drop all; ``oom_score_adj`` is -1000 to
    1000, None inherits; ``command_line`` is Windows' and ignored.
    """

    cwd: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: User = User(0, 0)
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: Int64 | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None
    command_line: str = ""


class Root(NamedTuple):
    """Root: ``path`` is absolute or relative to the bundle."""

    path: str
    readonly: bool = False


class Mount(NamedTuple):
    """Mounts: ``destination`` inside; ``source`` outside, relative to the bundle; fstab-style ``options``.

    The mappings (1.2: with ``idmap`` or ``ridmap``) are the file system's ids to the mount's, always a pair.
    """

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class Hook(NamedTuple):
    """POSIX-platform Hooks: ``args`` holds argv[0]; ``timeout`` in seconds, None waits for ever.

    ``env`` None: the property is not there, which is not the same as an environment with nothing in it.
    """

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: Int64 | None = None


class Hooks(NamedTuple):
    """POSIX-platform Hooks, in the order of a container's life; ``prestart`` is deprecated but lives."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Config(NamedTuple):
    """The whole document. ``process`` may be absent at create, but not at start."""

    oci_version: str
    root: Root
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks = Hooks()
    annotations: StringMap = NO_STRINGS
    linux: Linux = Linux()


__all__ = [
    "NO_STRINGS",
    "OCI_VERSION",
    "BlockIo",
    "Capabilities",
    "Config",
    "ConsoleSize",
    "Cpu",
    "CpuAffinity",
    "Device",
    "DeviceRule",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IdMapping",
    "IntelRdt",
    "InterfacePriority",
    "IoPriority",
    "Linux",
    "Memory",
    "MemoryPolicy",
    "Mount",
    "Namespace",
    "NetDevice",
    "Network",
    "Personality",
    "Pids",
    "Process",
    "Rdma",
    "Resources",
    "Rlimit",
    "Root",
    "Scheduler",
    "Seccomp",
    "SeccompArg",
    "SeccompRule",
    "ThrottleDevice",
    "TimeOffset",
    "User",
    "WeightDevice",
]
