"""Who a process is: uids, gids, capabilities (capabilities(7), setresuid(2)).

os.setgroups and friends are system calls of the one thread here, since glibc's broadcast finds no other thread.
"""

from __future__ import annotations

import ctypes
import os

from shimd.linux.libc import POINTER, check, syscall
from shimd.linux.processes import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAP_AMBIENT_RAISE,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_SET_KEEPCAPS,
    prctl,
)

# In the order of their numbers (capabilities(7)).
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on
NUMBER_OF = {f"CAP_{name}": number for number, name in enumerate(CAPABILITIES)}
VERSION_3 = 0x20080522  # of struct __user_cap_header_struct

_capset = syscall("capset", POINTER, POINTER)


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct."""

    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


def mask(names: list[str]) -> int:
    """The bits of capability names (CAP_CHOWN ...). KeyError for an unknown name."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBER_OF[name]
    return bits


def bounding() -> int:
    """The calling process's bounding set, as bits.

    By prctl and not from /proc: what is called /proc may be an image's own directory and say what it likes.
    """
    bits = 0
    for number in range(64):
        try:
            bits |= prctl(PR_CAPBSET_READ, number) << number
        except OSError:  # EINVAL: the kernel knows no more
            break
    return bits


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) for the calling thread."""
    words: list[int] = []
    for shift in (0, 32):
        words += [(bits >> shift) & 0xFFFFFFFF for bits in (effective, permitted, inheritable)]
    data = (ctypes.c_uint32 * 6)(*words)
    header = _Header(VERSION_3, 0)
    check(_capset(ctypes.byref(header), ctypes.byref(data)), "capabilities")


def drop_bounding(bits: int) -> None:
    """Drop these capabilities from the bounding set."""
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            prctl(PR_CAPBSET_DROP, number)


def set_ambient(bits: int) -> None:
    """Make the ambient set exactly `bits`; they must be permitted and inheritable already."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    number = 0
    while bits >> number:
        if bits >> number & 1:
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)
        number += 1


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Take the groups, gid and uid; permitted capabilities are kept for the capset that follows."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_KEEPCAPS, 0)
