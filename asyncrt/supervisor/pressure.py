"""Pressure: the kernel tells when tasks of a container waited for a resource for too long (accounting/psi.rst).

    async with told(directory, Trigger("memory", "some", 150_000, 2_000_000)) as readings:
        async for reading in readings:      # at most one per window; ends with the cgroup
            ...

On cgroup v2 the directory is the container's cgroup. On v1 there are no such accounts but in the hybrid layout, whose
extra tree of v2 keeps them for any cgroup: there a container gets one when somebody first asks (`place`), and all of
its processes are moved into it; those that it starts later are born there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import trio

from asyncrt.errors import BadRequest, Conflict
from asyncrt.model.stats import Pressure
from asyncrt.supervisor.cgroups import Cgroups
from shimd.linux import cgroups, notices

RESOURCES = ("cpu", "io", "memory")
SHORTEST_US, LONGEST_US = 500_000, 10_000_000  # of a window; psi.rst
KEPT = 16  # readings that a slow listener may be behind; then the oldest are dropped
_ROUNDS = 64  # of moving what forks meanwhile


class Trigger(NamedTuple):
    """Tell when tasks waited for `resource` for `stall_us` within `window_us`; `kind`: some of them, or full, all."""

    resource: str
    kind: str
    stall_us: int
    window_us: int


def trigger(resource: str, some_us: int, full_us: int, window_us: int) -> Trigger:
    """BadRequest for one that no kernel takes."""
    if resource not in RESOURCES:
        raise BadRequest("watch", f'pressure on "{resource}"', "there is no such account", ", ".join(RESOURCES))
    if bool(some_us) is bool(full_us):
        raise BadRequest("watch", f"pressure on {resource}", "one of some_us and full_us is needed")
    stall_us = some_us or full_us
    if not SHORTEST_US <= window_us <= LONGEST_US:
        hint = f"from {SHORTEST_US} to {LONGEST_US}"
        raise BadRequest("watch", f"pressure on {resource}", f"a window of {window_us} us cannot be watched", hint)
    if not 0 < stall_us <= window_us:
        raise BadRequest("watch", f"pressure on {resource}", f"{stall_us} us do not fit into {window_us} us")
    return Trigger(resource, "some" if some_us else "full", stall_us, window_us)


@contextlib.asynccontextmanager
async def told(directory: str, wish: Trigger) -> AsyncIterator[trio.MemoryReceiveChannel[Pressure]]:
    """A channel of readings, one whenever the trigger fires. Conflict where the kernel refuses it."""
    try:
        notice = notices.of_pressure(directory, *wish)
    except OSError as error:
        raise _refused(wish, error) from error
    epoll = select.epoll()
    send, receive = trio.open_memory_channel[Pressure](KEPT)
    try:
        # A trigger's file is always readable: only POLLPRI says something, and trio waits for POLLIN alone.
        epoll.register(notice.fd, notice.events)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, epoll, directory, wish, send, receive.clone())
            yield receive
            nursery.cancel_scope.cancel()
    finally:
        receive.close()
        epoll.close()
        os.close(notice.fd)


async def _tell(
    epoll: select.epoll,
    directory: str,
    wish: Trigger,
    send: trio.MemorySendChannel[Pressure],
    oldest: trio.MemoryReceiveChannel[Pressure],
) -> None:
    with send, oldest:
        while True:
            # To be looked at takes the news away (psi_trigger_poll): who woke us has seen it, epoll.poll() will not.
            # Nothing is missed meanwhile: the next news comes a window later.
            await trio.lowlevel.wait_readable(epoll.fileno())
            if any(events & select.EPOLLERR for _, events in epoll.poll(0)):
                return
            try:
                reading = read(directory, wish.resource)
            except OSError:
                return
            try:
                send.send_nowait(reading)
            except trio.WouldBlock:
                oldest.receive_nowait()
                send.send_nowait(reading)


def read(directory: str, resource: str) -> Pressure:
    """What the account says now. OSError if it, or the cgroup, is not there."""
    some, full = (0.0, 0), (0.0, 0)
    for line in cgroups.read(directory, f"{resource}.pressure").splitlines():
        kind, *words = line.split()
        found = dict(word.split("=", 1) for word in words)
        pair = float(found["avg10"]), int(found["total"])
        some, full = (pair, full) if kind == "some" else (some, pair)
    return Pressure(resource, time.time_ns(), some[0], some[1], full[0], full[1])


def _refused(wish: Trigger, error: OSError) -> Conflict:
    subject = f"pressure on {wish.resource}"
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return Conflict("watch", subject, "this kernel keeps no account of it", "boot with psi=1")
    if error.errno == errno.EINVAL:
        hint = "without CAP_SYS_RESOURCE the window has to be a multiple of 2000000 us"
        return Conflict("watch", subject, f"the kernel refuses a window of {wish.window_us} us", hint)
    return Conflict("watch", subject, (error.strerror or str(error)).lower())


def place(owner: Cgroups, id: str) -> str:
    """The directory with a container's accounts. Blocks: on a hybrid machine its processes are moved there.

    Conflict where this machine has none (cgroup v1 alone).
    """
    tree = owner.accounts
    if tree is None:
        hint = "mount cgroup2 on /sys/fs/cgroup/unified, or boot with cgroup v2"
        raise Conflict("watch", "pressure", "cgroup v1 keeps no account of it by container", hint)
    directory = tree.mount + owner.of(id)
    if tree in owner.hierarchies:
        return directory
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        gather(owner, id)
    except OSError as error:
        raise Conflict("watch", "pressure", (error.strerror or str(error)).lower()) from error
    return directory


def gather(owner: Cgroups, id: str) -> None:
    """Hybrid: move the processes of a container to where its accounts are; also those that an exec added since."""
    tree = owner.accounts
    if tree is None or not owner.has_accounts_beside(id):
        return
    directory = tree.mount + owner.of(id)
    for _ in range(_ROUNDS):
        strangers = set(cgroups.all_processes(owner.directory(id))) - set(cgroups.processes(directory))
        if not strangers:
            return
        for pid in strangers:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                cgroups.write(directory, "cgroup.procs", str(pid))
