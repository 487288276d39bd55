"""The planner: a warm process that compiles bundles to scripts for the front, and does nothing else.

    front                                   planner
      | -- Request (a packet) ------------->  | is it like us? bundle, plan, script
      | <- struct plan, laid out ------------ | or b"\\0": it declines, and the front goes to the reference

A Python `create` that finds none makes one when its own work is done (`leave_one`). It serves for IDLE_SECONDS after
the last request of a front that is like it. The socket is DIRECTORY/MNTNS-FRONT.sock, the inodes of the caller's mount
namespace and of the front; who holds the lock on MNTNS-FRONT.lock is the one planner of the two. It only computes: what
it made would have to be undone when it dies.

docs/decisions/0015-the-front-and-its-planner.md
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import struct
import sys
import time
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket
from typing import NoReturn

from shimd.command.packet import Packets
from shimd.command.request import MOST_BYTES, read

DIRECTORY = "/run/asyncrt-oci-planner"
IDLE_SECONDS = 10.0
GUEST_IDLE_SECONDS = 1.0  # where another than init has adopted us
GUEST_SECONDS = 10.0  # and in all
INIT = 1
REQUEST_SECONDS = 0.2  # for one who connected to say what he wants
BACKLOG = 1024
DECLINED = b"\0"
SPACES = ("user", "pid", "cgroup", "net", "uts", "ipc", "time_for_children")
FRONT = "asyncrt-oci"
NAME = "asyncrt-planner"  # for ps; 15 letters are the most


def leave_one() -> None:
    """Make a planner, unless there is one; it goes on when the caller has ended."""
    front = build()[1]
    place = _directory() if front else -1
    if place < 0:
        return
    name = f"{os.stat('/proc/self/ns/mnt').st_ino}-{front}"
    lock = _lock(place, name)
    if lock < 0:
        os.close(place)
        return
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    path = f"/proc/self/fd/{place}/{name}.sock"
    try:
        try:
            os.unlink(path)  # of one that was killed
        except FileNotFoundError:
            pass
        listener.bind(path)
        listener.listen(BACKLOG)
        if os.fork() == 0:
            _become(place, name, lock, listener)
    finally:
        listener.close()
        os.close(lock)
        os.close(place)


def _directory() -> int:
    """An fd on the sockets' directory, which is ours alone; -1 where there is none."""
    try:
        try:
            os.mkdir(DIRECTORY, 0o700)
        except FileExistsError:
            pass
        fd = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1
    found = os.fstat(fd)
    if found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return fd
    os.close(fd)
    return -1


def _lock(place: int, name: str) -> int:
    """The fd that holds the lock of this mount namespace's planner; -1 if another has it."""
    try:
        fd = os.open(f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=place)
    except OSError:
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:  # else its planner ended between our open and our lock
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return -1


# From here on it is the planner that runs.


def _become(place: int, name: str, lock: int, listener: socket) -> NoReturn:
    """The child, and the child's child: nobody waits for it, and it holds nothing of its caller."""
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        kept = sorted((place, lock, listener.fileno()))
        for low, high in zip([2, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        gc.enable()
        with open("/proc/self/comm", "w") as name_file:
            name_file.write(NAME)
        Planner(place, name, listener).serve()
    finally:
        os._exit(0)


class Planner:
    """Answers one front after another; `serve` returns when it is time to go, and its files are gone."""

    def __init__(self, place: int, name: str, listener: socket) -> None:
        self.place = place
        self.name = name
        self.listener = listener
        self.packets = Packets()
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.build = build()
        self.likeness = likeness(self.build[:3])
        gc.collect()
        gc.freeze()

    def serve(self) -> None:
        _leave_cgroups()
        poll = select.poll()
        poll.register(self.listener.fileno(), select.POLLIN)
        begun = time.monotonic()
        end = begun + self._patience()
        while poll.poll(max(0.0, end - time.monotonic()) * 1000):
            fd, _ = self.listener._accept()  # type: ignore[attr-defined] # what the Python half's accept() calls
            line = socket(fileno=fd)
            try:
                if self._answer(line):
                    end = time.monotonic() + self._patience()
                    if os.getppid() != INIT:
                        end = min(end, begun + GUEST_SECONDS)
            except OSError:
                continue  # the front went: its affair
            finally:
                line.close()
            if build() != self.build:
                break  # another version was installed: the next one has its planner
        os.unlink(f"{self.name}.sock", dir_fd=self.place)
        os.unlink(f"{self.name}.lock", dir_fd=self.place)

    def _patience(self) -> float:
        """Seconds without a request. Who was adopted by a subreaper (conmon) keeps it waiting for its last child."""
        return IDLE_SECONDS if os.getppid() == INIT else GUEST_IDLE_SECONDS

    def _answer(self, line: socket) -> bool:
        """Was it one like us? Others have a planner of their own as soon as we are gone."""
        _, uid, _ = struct.unpack("3i", line.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))
        waiting = select.poll()
        waiting.register(line.fileno(), select.POLLIN)
        if uid != os.geteuid() or not waiting.poll(REQUEST_SECONDS * 1000):
            return False
        request = read(line.recv(MOST_BYTES))
        if request is None or request.likeness != self.likeness:
            line.send(DECLINED)
            return False
        if self._mounts_changed():
            self.packets.look()
        line.send(self.packets.of(request) or DECLINED)
        return True

    def _mounts_changed(self) -> bool:
        """proc_pid_mountinfo(5): the file is readable for poll(2) in an exceptional way after each change."""
        poll = select.poll()
        poll.register(self.mounts, select.POLLPRI)
        return bool(poll.poll(0))


def build() -> tuple[int, ...]:
    """(device, inode, mtime) of the front, and what shows that the package was changed; 0 for what is not there."""
    front = os.path.join(os.path.dirname(os.path.realpath(sys.argv[0])), FRONT)
    rooms = [os.path.dirname(os.path.dirname(__file__)), os.path.dirname(__file__)]
    found: list[int] = []
    for path in (front, *rooms, f"{rooms[0]}/container"):
        try:
            status = os.stat(path)
        except OSError:
            found += [0, 0, 0]
        else:
            found += [status.st_dev, status.st_ino, status.st_mtime_ns]
    return tuple(found)


def likeness(front: tuple[int, ...]) -> tuple[int, ...]:
    """What two processes have to have in common for the one to plan what the other does."""
    from shimd.linux import identity

    root = os.stat("/")
    spaces = [os.stat(f"/proc/self/ns/{name}").st_ino for name in SPACES]
    effective = _effective()
    return (*front, root.st_dev, root.st_ino, identity.bounding(), effective, *spaces, 0, 0)


def _effective() -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _leave_cgroups() -> None:
    """Into the root of each hierarchy: a caller's cgroup (a pod's, a service's) shall go when the caller wants."""
    from shimd.linux import cgroups

    for hierarchy in cgroups.hierarchies():
        file = "cgroup.procs" if hierarchy.version == 2 else "tasks"
        try:
            cgroups.write(hierarchy.mount, file, "0")
        except OSError:
            continue  # then it stays for ten seconds
