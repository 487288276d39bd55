"""Files by which the kernel tells that a limit of a cgroup did something, and whose limit it was.

A notice says that there is news, never how much: the counts are in the cgroup's files (`stats.events`).
"""

from __future__ import annotations

import os
import select
from typing import NamedTuple

from shimd.linux import cgroups
from shimd.linux.cgroups import Hierarchy

MACHINE = "/"
_NO_LIMIT = 1 << 62  # v1 writes a number of about 2^63 where there is none
CHARGE = 256 * 1024  # bytes that v1 charges ahead at most (MEMCG_CHARGE_BATCH pages): so near to a limit is at it


class Notice(NamedTuple):
    """`events` is what poll(2) waits for. Who asked for it closes the fd."""

    fd: int
    events: int
    drain: bool
    """Is what is read from it a count that has to be taken away, as an eventfd's?"""


def of_memory(hierarchy: Hierarchy, directory: str) -> Notice:
    """Told when memory runs out; OSError where the kernel has no such file (the root cgroup).

    v1: an eventfd (memory.txt, "OOM Control"), told when the cgroup goes as well. v2: memory.events, told of all that
    it counts, at most every 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV), and anew only after it was read from its beginning.
    """
    if hierarchy.version == 2:
        return _file(directory, "memory.events")
    return _eventfd(directory, "memory.oom_control")


def of_limit(hierarchy: Hierarchy, directory: str) -> Notice | None:
    """v1: told when usage comes near the memory limit, or leaves it (memory.txt, "Memory thresholds").

    None on v2, whose memory.events tells that as well, and where there is no limit.
    """
    if hierarchy.version == 2:
        return None
    limit = cgroups.read_number(directory, "memory.limit_in_bytes")
    if not CHARGE < limit < _NO_LIMIT:
        return None
    return _eventfd(directory, "memory.usage_in_bytes", str(limit - CHARGE))


def of_core(hierarchy: Hierarchy, directory: str) -> Notice | None:
    """Told when it froze, thawed, or lost its last process (v2's cgroup.events). None on v1, which tells nobody."""
    return _file(directory, "cgroup.events") if hierarchy.version == 2 else None


def of_pressure(directory: str, resource: str, kind: str, stall_us: int, window_us: int) -> Notice:
    """Told when tasks waited for `resource` (cpu, io or memory) for `stall_us` within `window_us` (accounting/psi.rst).

    `kind` is some or full. EPOLLERR: the cgroup has gone. Told once per window at most; there is nothing to rearm.
    OSError: EINVAL for a window that is not from 0.5 to 10 s (or no multiple of 2 s, for who lacks CAP_SYS_RESOURCE);
    ENOENT, EOPNOTSUPP where the kernel keeps no account.
    """
    path = f"{directory}/{resource}.pressure"
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, f"{kind} {stall_us} {window_us}".encode() + b"\0")
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, error.strerror, path) from None
    return Notice(fd, select.POLLPRI, False)


def of_pids(hierarchy: Hierarchy, directory: str) -> Notice | None:
    """Told when a fork failed at pids.max. None on v1, whose file counts and tells nobody."""
    return _file(directory, "pids.events") if hierarchy.version == 2 else None


def rearm(notice: Notice) -> None:
    """Make it tell the next news; before the counts are read, so that none falls between."""
    try:
        if notice.drain:
            os.read(notice.fd, 8)
        else:
            os.pread(notice.fd, 4096, 0)
    except (BlockingIOError, OSError):
        return  # an eventfd that was drained already; a cgroup that has gone (ENODEV): its end is told elsewhere


def _eventfd(directory: str, name: str, argument: str = "") -> Notice:
    """v1's way: an eventfd that the kernel writes to (memory.txt, "cgroup.event_control")."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            cgroups.write(directory, "cgroup.event_control", f"{fd} {control} {argument}".rstrip())
        finally:
            os.close(control)
    except OSError:
        os.close(fd)
        raise
    return Notice(fd, select.POLLIN, True)


def _file(directory: str, name: str) -> Notice:
    notice = Notice(os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC), select.POLLPRI, False)
    rearm(notice)
    return notice


def oom_origin(hierarchy: Hierarchy, path: str) -> str:
    """The cgroup whose limit made the kernel kill in `path`, the nearest where several did; "/" if the machine ran out.

    v2 counts by place (memory.events.local, key oom). v1 does not: there the nearest limit that was ever
    reached is named (memory.failcnt stays 0 where memory and swap together have the same limit).
    """
    hit = _hit_2 if hierarchy.version == 2 else _hit_1
    while path.strip("/"):
        if hit(hierarchy.mount + path):
            return path
        path = path.rstrip("/").rpartition("/")[0]
    return MACHINE


def _hit_2(directory: str) -> bool:
    return cgroups.read_number(directory, "memory.events.local", "oom") > 0


def _hit_1(directory: str) -> bool:
    for kind in ("memory", "memory.memsw"):
        peak = cgroups.read_number(directory, f"{kind}.max_usage_in_bytes")
        if peak >= cgroups.read_number(directory, f"{kind}.limit_in_bytes") - CHARGE:
            return peak >= 0
    return False
