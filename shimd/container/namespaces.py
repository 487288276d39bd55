"""Operations on namespaces: join, unshare, and what lives in one (host name, loopback, sysctls)."""

from __future__ import annotations

import errno
import os
import time
from _socket import socket
from typing import NamedTuple

from shimd.container import descent
from shimd.container.making import Making
from shimd.linux import netdevice, processes
from shimd.spec.linux import sysctl_file
from shimd.wire import channel
from shimd.wire.messages import Go

FLAGS = {
    "user": processes.CLONE_NEWUSER,
    "pid": processes.CLONE_NEWPID,
    "network": processes.CLONE_NEWNET,
    "ipc": processes.CLONE_NEWIPC,
    "uts": processes.CLONE_NEWUTS,
    "mount": processes.CLONE_NEWNS,
    "cgroup": processes.CLONE_NEWCGROUP,
    "time": processes.CLONE_NEWTIME,
}
FILES = {kind: {"network": "net", "mount": "mnt"}.get(kind, kind) for kind in FLAGS}
# A process that joins these changes what its children are born into, not itself (setns(2), unshare(2)).
FOR_CHILDREN = processes.CLONE_NEWPID | processes.CLONE_NEWTIME


class OpenNamespace(NamedTuple):
    """shim: open a namespace file, and for pid and time set it for the children at once.

    `foreign`: the container changes it (a sysctl, a host name), so it must not be the one that the runtime is in
    (config-linux.md, "Sysctl"; spec's rules see the config alone).
    """

    kind: str
    path: str
    foreign: bool = False

    def describe(self) -> tuple[str, str]:
        return f"open {self.kind} namespace", self.path

    def execute(self, making: Making) -> None:
        flag = FLAGS[self.kind]
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if processes.namespace_kind(fd) != flag:
            os.close(fd)
            raise OSError(errno.EINVAL, f"it is no {self.kind} namespace here", self.path)
        if self.foreign and os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{FILES[self.kind]}")):
            os.close(fd)
            raise OSError(errno.EPERM, "it is the runtime's own, which a container may not change", self.path)
        if flag & FOR_CHILDREN:
            before = time.monotonic_ns()
            try:
                processes.setns(fd, flag)
            finally:
                os.close(fd)
            if flag == processes.CLONE_NEWTIME:  # the one that takes the caller along
                making.clock_shift = making.init_clock_shift = time.monotonic_ns() - before
        else:
            making.namespace_fds[flag] = fd

    def undo(self, making: Making) -> None:
        """The shim ends with its container, and the namespace is not ours."""


class NewTimeNamespace(NamedTuple):
    """shim: a time namespace for the children; offsets are (clock, seconds, nanoseconds) (time_namespaces(7))."""

    offsets: tuple[tuple[str, int, int], ...]

    def describe(self) -> tuple[str, str]:
        return "make", "time namespace"

    def execute(self, making: Making) -> None:
        processes.unshare(processes.CLONE_NEWTIME)
        lines = "".join(f"{clock} {seconds} {rest}\n" for clock, seconds, rest in self.offsets)
        if lines:
            _write("/proc/self/timens_offsets", lines)
        making.init_clock_shift = sum(
            seconds * 10**9 + rest for clock, seconds, rest in self.offsets if clock == "monotonic"
        )

    def undo(self, making: Making) -> None:
        """It ends with the shim."""


class JoinNamespaces(NamedTuple):
    """init: join what OpenNamespace opened, but for the mounts. (With a user namespace the usher has: see `clone`.)"""

    def describe(self) -> tuple[str, str]:
        return "join", "namespaces"

    def execute(self, making: Making) -> None:
        for flag, fd in making.namespace_fds.items():
            if flag != processes.CLONE_NEWNS:
                processes.setns(fd, flag)


class JoinMounts(NamedTuple):
    """init: join a mount namespace; last, since all that is written by way of /proc needs the machine's.

    The root is then that namespace's, and so is every path (setns(2)).
    """

    def describe(self) -> tuple[str, str]:
        return "join", "mount namespace"

    def execute(self, making: Making) -> None:
        processes.setns(making.namespace_fds[processes.CLONE_NEWNS], processes.CLONE_NEWNS)


def clone(flags: int, making: Making) -> tuple[int, int]:
    """clone3 init into new namespaces of kinds `flags`; (0, -1) in init, (pid, pidfd) in the caller.

    Where one of them is a user namespace and others are joined, an usher goes first: a short-lived child that joins
    what OpenNamespace opened and bears init as its own sibling. For the machine's right over what is joined ends in
    a user namespace, and what is new there must be made by somebody who is inside (user_namespaces(7)).
    """
    if not making.namespace_fds or not (flags | sum(making.namespace_fds)) & processes.CLONE_NEWUSER:
        return processes.clone3(flags, making.cgroup_fd)
    ours, theirs = channel.pair()
    sibling = flags & processes.CLONE_PARENT
    try:
        usher, usher_fd = processes.clone3(sibling)
        if usher == 0:
            return _usher(flags, making, theirs)
        theirs.close()
        os.close(usher_fd)
        try:
            pidfd = descent.take(ours)
        finally:
            if not sibling:
                os.waitpid(usher, 0)
        return processes.pid_of(pidfd), pidfd
    finally:
        ours.close()
        theirs.close()


def _usher(flags: int, making: Making, caller: socket) -> tuple[int, int]:
    """In the usher; it never returns, init does."""
    try:
        processes.prctl(processes.PR_SET_DUMPABLE, 0)
        for flag in sorted(making.namespace_fds, key=lambda kind: kind == processes.CLONE_NEWUSER):
            if flag != processes.CLONE_NEWNS:
                processes.setns(making.namespace_fds[flag], flag)
        pid, pidfd = processes.clone3(flags | processes.CLONE_PARENT, making.cgroup_fd)
        if pid == 0:
            return 0, -1
        channel.send(caller, Go(), [pidfd])
    except BaseException as error:  # noqa: BLE001 # nothing may leave the child
        descent.refuse(caller, error)
    os._exit(0)


class BecomeRoot(NamedTuple):
    """init: root of its user namespace; until here it is the machine's user, without the machine's capabilities."""

    def describe(self) -> tuple[str, str]:
        return "become", "root of the user namespace"

    def execute(self, making: Making) -> None:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


class UnshareCgroup(NamedTuple):
    """init: a cgroup namespace rooted where it now is; at clone3 it would be rooted where the shim is."""

    def describe(self) -> tuple[str, str]:
        return "make", "cgroup namespace"

    def execute(self, making: Making) -> None:
        processes.unshare(processes.CLONE_NEWCGROUP)


class LoopbackUp(NamedTuple):
    """init: set lo up."""

    def describe(self) -> tuple[str, str]:
        return "set up", "loopback link"

    def execute(self, making: Making) -> None:
        netdevice.loopback_up()


class SetHostname(NamedTuple):
    """init: the host name, the container's own if it has one."""

    hostname: str

    def describe(self) -> tuple[str, str]:
        return "set", "host name"

    def execute(self, making: Making) -> None:
        name = making.hostname or self.hostname
        if name:
            processes.sethostname(name)


class RenameJoined(NamedTuple):
    """init: the host name in a uts namespace that was there before: the config's, if it gives one."""

    hostname: str

    def describe(self) -> tuple[str, str]:
        return "set", f"host name {self.hostname}"

    def execute(self, making: Making) -> None:
        processes.sethostname(self.hostname)


class SetDomainname(NamedTuple):
    """init: the NIS domain name."""

    domainname: str

    def describe(self) -> tuple[str, str]:
        return "set", f"domain name {self.domainname}"

    def execute(self, making: Making) -> None:
        processes.setdomainname(self.domainname)


class WriteSysctl(NamedTuple):
    """init: a sysctl of its own namespaces, through the machine's procfs, before the root changes."""

    key: str
    value: str

    def describe(self) -> tuple[str, str]:
        return "set sysctl", f"{self.key}={self.value}"

    def execute(self, making: Making) -> None:
        _write(sysctl_path(self.key), self.value)


def sysctl_path(key: str) -> str:
    """Where the machine's procfs has a sysctl."""
    return "/proc/sys/" + sysctl_file(key)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
