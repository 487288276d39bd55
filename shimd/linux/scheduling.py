"""When and where a process runs, and where its memory lies: sched_setattr(2), ioprio_set(2), set_mempolicy(2)."""

from __future__ import annotations

import ctypes
from collections.abc import Collection

from shimd.linux.libc import INT, POINTER, UINT, ULONG, check, syscall

# linux/sched.h, linux/ioprio.h, linux/mempolicy.h.
POLICIES = {"OTHER": 0, "FIFO": 1, "RR": 2, "BATCH": 3, "ISO": 4, "IDLE": 5, "DEADLINE": 6}
FLAGS = {
    "RESET_ON_FORK": 0x01,
    "RECLAIM": 0x02,
    "DL_OVERRUN": 0x04,
    "KEEP_POLICY": 0x08,
    "KEEP_PARAMS": 0x10,
    "UTIL_CLAMP_MIN": 0x20,
    "UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"RT": 1, "BE": 2, "IDLE": 3}
MEMORY_MODES = {
    "DEFAULT": 0,
    "PREFERRED": 1,
    "BIND": 2,
    "INTERLEAVE": 3,
    "LOCAL": 4,
    "PREFERRED_MANY": 5,
    "WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {"NUMA_BALANCING": 1 << 13, "RELATIVE_NODES": 1 << 14, "STATIC_NODES": 1 << 15}
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13

_sched_setattr = syscall("sched_setattr", INT, POINTER, UINT)
_ioprio_set = syscall("ioprio_set", INT, INT, INT)
_set_mempolicy = syscall("set_mempolicy", INT, POINTER, ULONG)


class _SchedAttr(ctypes.Structure):
    """struct sched_attr, as of Linux 5.3."""

    _fields_ = [
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
        ("util_min", ctypes.c_uint32),
        ("util_max", ctypes.c_uint32),
    ]


def sched_setattr(policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int) -> None:
    """sched_setattr(2) for the calling thread; times in nanoseconds."""
    size = ctypes.sizeof(_SchedAttr)
    attributes = _SchedAttr(size, policy, flags, nice, priority, runtime, deadline, period, 0, 0)
    check(_sched_setattr(0, ctypes.byref(attributes), 0), f"policy {policy}")


def ioprio_set(io_class: int, level: int) -> None:
    """ioprio_set(2) for the calling thread."""
    check(_ioprio_set(_IOPRIO_WHO_PROCESS, 0, io_class << _IOPRIO_CLASS_SHIFT | level), f"class {io_class}")


def set_mempolicy(mode: int, nodes: Collection[int]) -> None:
    """set_mempolicy(2) for the calling thread. ENOSYS: a kernel without NUMA."""
    if not nodes:
        check(_set_mempolicy(mode, None, 0), f"mode {mode}")
        return
    words = max(nodes) // 64 + 1
    mask = (ctypes.c_uint64 * words)()
    for node in nodes:
        mask[node // 64] |= 1 << node % 64
    # The kernel takes one bit less than it is told (get_nodes() in mm/mempolicy.c).
    check(_set_mempolicy(mode, ctypes.byref(mask), words * 64 + 1), f"mode {mode}")
