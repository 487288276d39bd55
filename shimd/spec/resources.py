"""``linux.resources``: what cgroups are to limit (runtime-spec, config-linux.md, "Control groups").

None means "not asked for", which differs from 0: the runtime leaves such a file of the cgroup alone.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from shimd.spec.scalars import NO_STRINGS, Int64, StringMap, Uint16, Uint32, Uint64

UNSET_SWAPPINESS = (1 << 64) - 1
"""-1, as engines write it whose swappiness is signed: runc takes it as not asked for."""


class DeviceRule(NamedTuple):
    """Allowed Device list: one entry, applied in order; ``a`` is every type, None every number.

    ``access`` is made of ``r``, ``w`` and ``m`` (mknod); empty means all three.
    """

    allow: bool
    type: str = ""
    major: Int64 | None = None
    minor: Int64 | None = None
    access: str = ""


class Memory(NamedTuple):
    """Memory: bytes, -1 for no limit. ``swap`` counts memory and swap together, as cgroup v1 does.

    ``kernel``, ``kernel_tcp``, ``swappiness``, ``disable_oom_killer`` and ``use_hierarchy`` exist on
    cgroup v1 only; ``swappiness`` is 0 to 100 (or UNSET_SWAPPINESS).
    """

    limit: Int64 | None = None
    reservation: Int64 | None = None
    swap: Int64 | None = None
    kernel: Int64 | None = None
    kernel_tcp: Int64 | None = None
    swappiness: Uint64 | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(NamedTuple):
    """CPU: ``quota``, ``burst``, ``period`` and the realtime pair in microseconds.

    ``shares`` is cgroup v1's weight (2 to 262144, 1024 is normal); ``cpus`` and ``mems`` are lists such
    as ``0-3,7``; ``idle`` 1 gives the cgroup SCHED_IDLE.
    """

    shares: Uint64 | None = None
    quota: Int64 | None = None
    burst: Uint64 | None = None
    period: Uint64 | None = None
    realtime_runtime: Int64 | None = None
    realtime_period: Uint64 | None = None
    cpus: str = ""
    mems: str = ""
    idle: Int64 | None = None


class Pids(NamedTuple):
    """PIDs: how many tasks, -1 for no limit; 0 is the least that is possible."""

    limit: Int64 | None = None


class WeightDevice(NamedTuple):
    """Block IO: the weight (10 to 1000) of one device; at least one of the two weights."""

    major: Int64
    minor: Int64
    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None


class ThrottleDevice(NamedTuple):
    """Block IO: the ceiling of one device, in bytes or operations per second."""

    major: Int64
    minor: Int64
    rate: Uint64


class BlockIo(NamedTuple):
    """Block IO: weights from 10 to 1000, throttles per device."""

    weight: Uint16 | None = None
    leaf_weight: Uint16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(NamedTuple):
    """Huge page limits: ``limit`` bytes of pages of ``page_size`` (``64KB``, ``2MB``, ``1GB``)."""

    page_size: str
    limit: Uint64


class InterfacePriority(NamedTuple):
    """Network: the priority of traffic leaving by the interface ``name`` (net_prio, cgroup v1)."""

    name: str
    priority: Uint32


class Network(NamedTuple):
    """Network: the net_cls class and net_prio priorities (cgroup v1 only)."""

    class_id: Uint32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(NamedTuple):
    """RDMA: handles and objects of one device; at least one of the two."""

    hca_handles: Uint32 | None = None
    hca_objects: Uint32 | None = None


NO_RDMA: Mapping[str, Rdma] = MappingProxyType({})


class Resources(NamedTuple):
    """Control groups: every controller. Also the whole document of ``update``.

    ``unified`` maps cgroup v2 file names to what is written there, after all else.
    """

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    pids: Pids = Pids()
    block_io: BlockIo = BlockIo()
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network = Network()
    rdma: Mapping[str, Rdma] = NO_RDMA
    unified: StringMap = NO_STRINGS
