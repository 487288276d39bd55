"""Cgroup hierarchies of v1 and v2: find, create, enter, read, kill, remove (cgroups(7)).

v1: a task enters by writing "0" into `tasks` itself. That skips cgroup_threadgroup_rwsem, which a pid written into
cgroup.procs takes for writing (kernel commit 9a3284fad42f, "cgroup: Optimize single thread migration"), and with it
the wait for an RCU grace period at every start. v2: a task is born inside (CLONE_INTO_CGROUP).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from typing import NamedTuple

MOUNTINFO = "/proc/self/mountinfo"
# fmt: off
V1_CONTROLLERS = frozenset((
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids", "blkio", "hugetlb", "net_cls", "net_prio",
    "rdma",
))
# fmt: on
BUSY_SECONDS = 2.0  # how long a dying member may keep its cgroup busy


class Hierarchy(NamedTuple):
    """One mounted tree. v2 holds the controllers that its root offers."""

    version: int
    mount: str
    controllers: tuple[str, ...]


def hierarchies() -> list[Hierarchy]:
    """The trees that manage containers here: the one of v2 if it is mounted at /sys/fs/cgroup, else those of v1.

    On a hybrid machine the extra v2 tree is left out: it holds no controllers that containers need.
    """
    found: list[Hierarchy] = []
    with open(MOUNTINFO) as file:
        for line in file:
            before, _, after = line.partition(" - ")
            words = after.split()
            path = before.split()[4]
            if words[0] == "cgroup2" and path == "/sys/fs/cgroup":
                return [Hierarchy(2, path, tuple(read(path, "cgroup.controllers").split()))]
            if words[0] == "cgroup":
                controllers = tuple(word for word in words[2].split(",") if word in V1_CONTROLLERS)
                if controllers and not any(h.controllers == controllers for h in found):
                    found.append(Hierarchy(1, path, controllers))
    return found


def accounts() -> Hierarchy | None:
    """The tree of v2, wherever it is mounted: it keeps accounts of pressure, also for cgroups without a controller."""
    with open(MOUNTINFO) as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.split()[0] == "cgroup2":
                path = before.split()[4]
                return Hierarchy(2, path, tuple(read(path, "cgroup.controllers").split()))
    return None


def read(directory: str, name: str) -> str:
    """A cgroup file's text."""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16).decode()
    finally:
        os.close(fd)


def read_whole(directory: str, name: str) -> str:
    """A cgroup file's text where it may be long: one read gives a page or so of a list's lines."""
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    parts: list[bytes] = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def write(directory: str, name: str, value: str) -> None:
    """Write a cgroup file; the error's filename says which."""
    path = f"{directory}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def names(directory: str) -> list[str]:
    """The files of a cgroup; [] if it is gone."""
    try:
        return os.listdir(directory) if directory else []
    except FileNotFoundError:
        return []


def read_number(directory: str, name: str, key: str = "") -> int:
    """A number from a cgroup file, or from its line `key`; -1 where there is none."""
    try:
        text = read(directory, name)
    except OSError:
        return -1
    for line in text.splitlines():
        words = line.split()
        if not key and words:
            return int(words[0]) if words[0].isdigit() else -1
        if len(words) == 2 and words[0] == key:
            return int(words[1])
    return -1


def make_parent(hierarchy: Hierarchy, path: str, must_delegate: bool = True) -> None:
    """Make a cgroup that will hold cgroups (and no process), usable for its controllers. Safe to repeat.

    OSError(EBUSY) if processes live in it, on v2: it can hand on no controller then. Without `must_delegate` that is
    fine, and so are threaded cgroups: whoever then looks for a controller's files finds none.
    """
    directory = hierarchy.mount
    tolerated = _NOT_HERE if must_delegate else (*_NOT_HERE, errno.EBUSY)
    if hierarchy.version == 2:
        _delegate(directory, hierarchy.controllers, tolerated)
    for name in filter(None, path.split("/")):
        above, directory = directory, f"{directory}/{name}"
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            pass
        if hierarchy.version == 2:
            _delegate(directory, hierarchy.controllers, tolerated)
        if "cpuset" in hierarchy.controllers and hierarchy.version == 1:
            inherit_cpuset(above, directory)


# Of a write to cgroup.subtree_control: the cgroup is threaded, has not got the controller, or may not hand it on.
_NOT_HERE = (errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL)


def _delegate(directory: str, controllers: tuple[str, ...], tolerated: tuple[int, ...]) -> None:
    """Let a v2 cgroup hand its controllers to its children (the root and cgroups without processes may).

    The no-internal-process rule is asked for here: where processes live the kernel refuses memory and io alone, and
    the first of cpu, cpuset and pids makes the cgroup a threaded one, below which no container can be (cgroup-v2.rst,
    "Threads").
    """
    have = read(directory, "cgroup.subtree_control").split()
    can = read(directory, "cgroup.controllers").split()
    missing = [name for name in controllers if name in can and name not in have]
    if missing and _is_domain(directory) and processes(directory):
        if errno.EBUSY in tolerated:
            return
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), directory)
    for name in missing:
        try:
            write(directory, "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            if error.errno not in tolerated:
                raise


def _is_domain(directory: str) -> bool:
    """Neither the root, which has no type, nor threaded."""
    try:
        return read(directory, "cgroup.type").strip() == "domain"
    except FileNotFoundError:
        return False


def inherit_cpuset(above: str, directory: str) -> None:
    """v1 makes a cpuset empty, and nothing can enter an empty one: take cpus and mems from above."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read(directory, name).strip():
            write(directory, name, read(above, name).strip())


def processes(directory: str) -> list[int]:
    """The pids in a cgroup itself, as this pid namespace sees them; [] if it is gone.

    Of a threaded cgroup of v2 they are its threads': its processes are told further up alone (EOPNOTSUPP).
    """
    try:
        try:
            text = read_whole(directory, "cgroup.procs")
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            text = read_whole(directory, "cgroup.threads")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: it went between open and read
            raise
        return []
    return [int(word) for word in text.split() if word != "0"]


def all_processes(directory: str) -> list[int]:
    """The pids in a cgroup and in those below it."""
    found = processes(directory)
    for name in _children(directory):
        found += all_processes(f"{directory}/{name}")
    return found


def is_frozen(hierarchy: Hierarchy, directory: str) -> bool:
    """Was this cgroup told to freeze? (One above it may be frozen as well: that shows in cgroup.events of v2.)"""
    if hierarchy.version == 2:
        return read_number(directory, "cgroup.freeze") == 1
    if "freezer" not in hierarchy.controllers:
        return False
    return read(directory, "freezer.state").strip() != "THAWED"


def own_path(pid: int) -> str:
    """The v2 cgroup of a process as this cgroup namespace sees it. FileNotFoundError: it ended."""
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return line[3:].rstrip("\n").removesuffix(" (deleted)")
    raise FileNotFoundError(errno.ENOENT, "it is in no cgroup of v2", f"/proc/{pid}/cgroup")


def delegated_files() -> list[str]:
    """The files that go to the new owner of a v2 cgroup, as this kernel lists them (since Linux 4.14)."""
    try:
        with open("/sys/kernel/cgroup/delegate") as file:
            return file.read().split()
    except FileNotFoundError:
        return ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]


def kill(hierarchy: Hierarchy, directory: str) -> None:
    """SIGKILL all that lives in a cgroup, on v2 also below it; they end soon after. Gone already is fine."""
    if hierarchy.version == 2:
        try:
            write(directory, "cgroup.kill", "1")
            return
        except OSError as error:  # gone (ENODEV: in this moment), or a kernel before 5.14
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
    for _ in range(16):  # a fork may be faster than the list; a fork bomb meets pids.max
        members = processes(directory)
        if not members:
            return
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def remove(directory: str) -> None:
    """rmdir a cgroup and those below it; gone already is fine. OSError(EBUSY) if members stay for 2 seconds."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        for name in _children(directory):
            remove(f"{directory}/{name}")
        time.sleep(0.002)


def leave(directory: str) -> None:
    """rmdir a cgroup that others may live in, or have cgroups below: then it stays."""
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
            raise


def _children(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
