"""The ``linux`` property of a config (runtime-spec, config-linux.md)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from shimd.spec.resources import Resources
from shimd.spec.scalars import NO_STRINGS, Id, Int64, StringMap, Uint32, Uint64


class Namespace(NamedTuple):
    """Namespaces: one to create, or with ``path`` (absolute, outside) one to join.

    ``type`` is pid, network, mount, ipc, uts, user, cgroup or time; a type that is not listed is inherited.
    """

    type: str
    path: str = ""


class IdMapping(NamedTuple):
    """User namespace mappings: ``size`` ids from ``container_id`` inside are ``host_id`` on outside."""

    container_id: Id
    host_id: Id
    size: Uint32


class TimeOffset(NamedTuple):
    """Offset for Time Namespace: seconds (may be negative) and nanoseconds (below a billion)."""

    secs: Int64 = 0
    nanosecs: Uint32 = 0


class Device(NamedTuple):
    """Devices: a node to make. ``type`` is c, u (both character), b or p (a fifo, without numbers).

    ``file_mode`` holds permission bits in decimal as JSON has them (438 is 0o666); None leaves mode and owner
    to the runtime.
    """

    type: str
    path: str
    major: Int64 | None = None
    minor: Int64 | None = None
    file_mode: Uint32 | None = None
    uid: Id | None = None
    gid: Id | None = None


class NetDevice(NamedTuple):
    """Network Devices (1.3): a host interface to move in; ``name`` is its new name, empty keeps it."""

    name: str = ""


class SeccompArg(NamedTuple):
    """Seccomp: a test on system call argument ``arg_index`` (0 to 5; JSON's ``index``).

    ``value_two`` is the datum of SCMP_CMP_MASKED_EQ, ``value`` being the mask.
    """

    arg_index: Uint32
    value: Uint64
    op: str
    value_two: Uint64 = 0


class SeccompRule(NamedTuple):
    """Seccomp, ``syscalls[]``: ``action`` for the calls ``names``, all ``args`` holding."""

    names: tuple[str, ...]
    action: str
    errno_ret: Uint32 | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(NamedTuple):
    """Seccomp: names are libseccomp's (SCMP_ACT_ERRNO, SCMP_ARCH_X86_64, SECCOMP_FILTER_FLAG_LOG)."""

    default_action: str
    default_errno_ret: Uint32 | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompRule, ...] = ()


class IntelRdt(NamedTuple):
    """IntelRdt: the resctrl group, its schemata lines (1.3) or the older pair, monitoring (1.3) or the older pair."""

    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False
    enable_cmt: bool = False
    enable_mbm: bool = False


class MemoryPolicy(NamedTuple):
    """Memory policy (1.3): set_mempolicy(2); ``nodes`` is a list such as ``0-3,7``."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class Personality(NamedTuple):
    """Personality: the execution domain, LINUX or LINUX32; the spec defines no flag yet."""

    domain: str
    flags: tuple[str, ...] = ()


class SystemdPath(NamedTuple):
    """A ``cgroups_path`` in systemd's notation: the unit ``prefix-name.scope`` within ``slice``."""

    slice: str
    prefix: str
    name: str


def systemd_path(cgroups_path: str) -> SystemdPath | None:
    """The parts of ``slice:prefix:name``, as runc's systemd driver reads it; None for a plain path.

    The notation is no part of the spec, and ``/a:b:c`` or ``a:b`` are plain paths.
    """
    parts = cgroups_path.split(":")
    if len(parts) != 3 or "/" in cgroups_path or not parts[2]:
        return None
    return SystemdPath(*parts)


def sysctl_file(name: str) -> str:
    """The path below /proc/sys of a key of ``sysctl``, as sysctl(8) reads it: ``net.ipv4.ip_forward``.

    The first separator decides: after a dot, slashes stand for literal dots (``net.ipv4.conf.eth0/1.mtu``
    is ``net/ipv4/conf/eth0.1/mtu``); after a slash, dots are dots. Raises ValueError for a name that would
    lead elsewhere, ``net/../kernel/core_pattern`` for one.
    """
    dot, slash = name.find("."), name.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        name = name.replace("/", "\0").replace(".", "/").replace("\0", ".")
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name!a:.80} is not the name of a kernel parameter")
    return name


NO_OFFSETS: Mapping[str, TimeOffset] = MappingProxyType({})
NO_NET_DEVICES: Mapping[str, NetDevice] = MappingProxyType({})


class Linux(NamedTuple):
    """``linux``. Keys: clocks in ``time_offsets``, host interfaces in ``net_devices``."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: Mapping[str, TimeOffset] = NO_OFFSETS
    devices: tuple[Device, ...] = ()
    net_devices: Mapping[str, NetDevice] = NO_NET_DEVICES
    cgroups_path: str = ""
    resources: Resources = Resources()
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: StringMap = NO_STRINGS
    seccomp: Seccomp | None = None
    rootfs_propagation: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None

    def namespace(self, type: str) -> Namespace | None:
        """The entry of this type, None where the container inherits the runtime's namespace."""
        for namespace in self.namespaces:
            if namespace.type == type:
                return namespace
        return None
