"""Processes: clone3, pidfds, namespaces, prctl, descriptors, waiting.

clone3(2) is called raw: no atfork handlers run and the child is a copy of the one thread that called. That is safe
here because zygote and shim have one thread, no locks and no buffered output (DESIGN section 2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource

from shimd.linux.libc import INT, POINTER, SIZE, STRING, UINT, ULONG, check, function, syscall

CLONE_NEWTIME = 0x80
CLONE_PARENT = 0x8000
CLONE_PIDFD = 0x1000
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000
SIGCHLD = 17

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

NS_GET_NSTYPE = 0xB703
CLOSE_RANGE_CLOEXEC = 4
LAST_FD = 0xFFFFFFFF
P_PIDFD = 3

_clone3 = syscall("clone3", POINTER, SIZE)
_pidfd_open = syscall("pidfd_open", INT, UINT)
_pidfd_send_signal = syscall("pidfd_send_signal", INT, INT, POINTER, UINT)
_close_range = syscall("close_range", UINT, UINT, UINT)
_keyctl = syscall("keyctl", INT, STRING, ULONG, ULONG, ULONG)
_setns = function("setns", INT, INT)
_unshare = function("unshare", INT)
_prctl = function("prctl", INT, ULONG, ULONG, ULONG, ULONG)
_sethostname = function("sethostname", STRING, SIZE)
_setdomainname = function("setdomainname", STRING, SIZE)
_personality = function("personality", ULONG)


class _CloneArgs(ctypes.Structure):
    """struct clone_args of clone3(2), as of Linux 5.7."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def clone3(flags: int = 0, cgroup: int = -1) -> tuple[int, int]:
    """clone3(2) as a fork: (0, -1) in the child, (pid, pidfd) in the parent; pidfd is close-on-exec.

    cgroup: a directory fd of a v2 cgroup that the child is born into. With CLONE_PARENT the child is the caller's
    sibling and sends the signal that the caller would.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArgs()
    arguments.flags = flags | CLONE_PIDFD
    arguments.pidfd = ctypes.addressof(pidfd)
    arguments.exit_signal = 0 if flags & CLONE_PARENT else SIGCHLD
    if cgroup >= 0:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    pid = check(_clone3(ctypes.byref(arguments), ctypes.sizeof(arguments)), "a new process")
    return (pid, pidfd.value) if pid else (0, -1)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2)."""
    return check(_pidfd_open(pid, 0), str(pid))


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2). ESRCH: it ended."""
    check(_pidfd_send_signal(pidfd, signal, None, 0), "pidfd")


def pid_of(pidfd: int) -> int:
    """The pid behind a pidfd, as /proc numbers it (proc_pid_fdinfo(5)). ProcessLookupError: it ended."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key == "Pid" and int(value) > 0:
                return int(value)
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), "pidfd")


def setns(fd: int, kinds: int) -> None:
    """setns(2) by a namespace fd or, with a pidfd, into several namespaces of that process at once."""
    check(_setns(fd, kinds), "namespace")


def user_namespace(uid_map: str, gid_map: str) -> int:
    """An fd on a new user namespace with these maps (user_namespaces(7)) and nobody in it."""
    wait, release = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone3(CLONE_NEWUSER)
        if pid == 0:  # it lives until the pipe is closed, whoever closes it
            os.close(release)
            os.read(wait, 1)
            os._exit(0)
        try:
            for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
                write_map(pid, name, text)
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(release)
            release = -1
            os.waitpid(pid, 0)
            os.close(pidfd)
    finally:
        os.close(wait)
        if release >= 0:
            os.close(release)


def write_map(pid: int, name: str, text: str) -> None:
    """uid_map or gid_map of a process: in one write, or the kernel refuses the rest (user_namespaces(7))."""
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def own_ids(name: str) -> str:
    """uid_map or gid_map for a user namespace whose ids are those of this process's own."""
    with open(f"/proc/self/{name}") as file:
        rows = [line.split() for line in file]
    return "".join(f"{inside} {inside} {size}\n" for inside, _, size in rows)


def root_of(pid: int) -> tuple[int, int]:
    """Who uid 0 and gid 0 of a process's user namespace are to this one; -1 for one that is not mapped."""
    found = []
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{pid}/{name}") as file:
            rows = [[int(word) for word in line.split()] for line in file]
        found.append(next((outside for inside, outside, _ in rows if inside == 0), -1))
    return found[0], found[1]


def namespace_kind(fd: int) -> int:
    """ioctl_ns(2), NS_GET_NSTYPE: the CLONE_NEW* of a namespace file; 0 if fd is none."""
    try:
        return fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        return 0


def unshare(kinds: int) -> None:
    """unshare(2)."""
    check(_unshare(kinds), "namespace")


def prctl(option: int, first: int = 0, second: int = 0, third: int = 0, fourth: int = 0) -> int:
    """prctl(2) with number arguments."""
    return check(_prctl(option, first, second, third, fourth), f"prctl {option}")


def set_name(name: str) -> None:
    """What ps shows as comm; at most 15 bytes are kept. By procfs: prctl would have ctypes build a buffer type."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, os.fsencode(name))
    finally:
        os.close(fd)


def close_range(first: int, last: int = LAST_FD, flags: int = 0) -> None:
    """close_range(2)."""
    check(_close_range(first, last, flags), f"fds {first} to {last}")


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = os.fsencode(name)
    check(_sethostname(encoded, len(encoded)), name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    encoded = os.fsencode(name)
    check(_setdomainname(encoded, len(encoded)), name)


def personality(persona: int) -> None:
    """personality(2)."""
    check(_personality(persona), str(persona))


def join_session_keyring(name: str) -> None:
    """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a session keyring of one's own, else the host's is shared."""
    check(_keyctl(1, os.fsencode(name), 0, 0, 0), name)


def prlimit(kind: int, soft: int, hard: int) -> None:
    """setrlimit(2) for the calling process; -1 is infinity. ValueError and OSError become OSError(EPERM)."""
    try:
        resource.setrlimit(kind, (soft, hard))
    except ValueError as error:  # Python's word for EPERM and EINVAL here
        number = 1 if "raise" in str(error) or "not allowed" in str(error) else 22
        raise OSError(number, os.strerror(number), f"rlimit {kind}") from None


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)): clock ticks since boot; with the pid, an identity.

    0 if there is no such process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(data[data.rindex(b")") + 2 :].split()[19])
