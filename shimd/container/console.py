"""The console of a process with a terminal (config.md, `process.terminal` and `consoleSize`).

The pair is made from the container's own devpts: the slave by TIOCGPTPEER (ioctl_tty(2)) and never by a path, so that
nothing inside can put another file in its place (CVE-2025-52565). The master goes to whoever holds the terminal, by
SCM_RIGHTS on a stream socket, with the name of its device as runc sends it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SOCK_STREAM, socket
from typing import NamedTuple

from shimd.container.making import Making
from shimd.linux import mounts, paths
from shimd.spec.config import ConsoleSize
from shimd.wire import channel

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
PTMX = os.makedev(5, 2)
STRAIGHT = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS


class TakeConsole(NamedTuple):
    """Make the pair, send the master away, be the slave's session leader on stdin, stdout and stderr.

    `bound`: init also mounts the slave on /dev/console. A process that joins finds the root at /.
    """

    uid: int
    size: ConsoleSize | None
    bound: bool

    def describe(self) -> tuple[str, str]:
        return "open", "console"

    def execute(self, making: Making) -> None:
        if making.console_fd < 0:
            raise OSError(errno.ENOTCONN, "nobody takes its master", "console")
        root = making.root_fd
        if root < 0:
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        master = _master(root)
        try:
            slave = _slave(master)
            if self.size is not None:
                resize(slave, self.size.height, self.size.width)
            if self.uid:
                os.fchown(slave, self.uid, -1)
            if self.bound:
                _bind(slave, root)
            send_master(making.console_fd, master)
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for number in (0, 1, 2):
                os.dup2(slave, number)
            os.close(slave)
        finally:
            os.close(master)


def _master(root: int) -> int:
    try:
        master = paths.openat2(root, "dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, 0, STRAIGHT)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, "the container has no devpts on /dev/pts", "console") from None
    found = os.fstat(master)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != PTMX:
        os.close(master)
        raise OSError(errno.ENODEV, "/dev/pts/ptmx is no terminal multiplexer", "console")
    return master


def _slave(master: int) -> int:
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    return peer(master)


def peer(master: int) -> int:
    """A new fd on the master's slave, by no path (TIOCGPTPEER)."""
    return fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)


def _bind(slave: int, root: int) -> None:
    """/dev/console, by fds from end to end."""
    directory = paths.openat2(root, "dev", os.O_PATH | os.O_DIRECTORY, 0, STRAIGHT)
    try:
        try:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open("console", flags, 0o600, dir_fd=directory))
        except FileExistsError:
            pass
        target = paths.openat2(directory, "console", os.O_PATH | os.O_NOFOLLOW, 0, STRAIGHT)
        try:
            tree = mounts.open_tree(slave, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
            try:
                mounts.move_mount(tree, target)
            finally:
                os.close(tree)
        finally:
            os.close(target)
    finally:
        os.close(directory)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Set a terminal's size by either end of it (ioctl_tty(2), TIOCSWINSZ)."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def receive_master(end: socket) -> int:
    """What send_master sent; close-on-exec and the caller's. OSError if it never came."""
    _, ancillary, _, _ = end.recvmsg(16, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
    found = channel.fds_of(ancillary)
    if not found:
        raise OSError(errno.ENOTCONN, "the terminal's master did not come", "console")
    return found[0]


def send_master(to: int, master: int) -> None:
    """One message with the fd beside it; the socket stays the caller's."""
    line = socket(AF_UNIX, SOCK_STREAM, 0, to)
    try:
        line.sendmsg([b"/dev/ptmx"], channel.rights([master]))
    finally:
        line.detach()
