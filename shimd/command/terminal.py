"""The terminal of a foreground process: raw on our side, its master here, bytes both ways, our window's size."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import tty
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from typing import Any

from shimd.container.console import resize
from shimd.errors import RuntimeTrouble, Trouble
from shimd.spec.config import ConsoleSize
from shimd.wire import channel

CHUNK = 1 << 16
SIZE_BYTES = 8


class Terminal:
    """`theirs` is for TakeConsole; `take` is called once it sent the master; `restore` in any case."""

    def __init__(self) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM, 0)
        self.line = ours
        self.theirs = theirs.detach()
        self.master = -1
        self.saved: list[Any] | None = None
        self.pending = b""
        """From our stdin, for a master that does not take more just now."""
        self.fds: set[int] = set()

    def take(self) -> None:
        """Receive the master, give it our window's size, make our own terminal raw."""
        os.close(self.theirs)
        _, ancillary, _, _ = self.line.recvmsg(64, channel.ANCILLARY)
        fds = channel.fds_of(ancillary)
        self.line.close()
        if len(fds) != 1:
            raise RuntimeTrouble(Trouble("receive", "console", f"{len(fds)} file descriptors came, 1 is expected"))
        self.master = fds[0]
        os.set_inheritable(self.master, False)
        os.set_blocking(self.master, False)
        if os.isatty(0):
            self.follow_size()
            self.saved = termios.tcgetattr(0)
            tty.setraw(0)

    def register(self, poll: select.poll) -> None:
        poll.register(self.master, select.POLLIN)
        poll.register(0, select.POLLIN)
        self.fds = {self.master, 0}

    def move(self, fd: int, poll: select.poll) -> None:
        """Bytes from where they are to where they belong."""
        if fd == 0:
            data = os.read(0, CHUNK)
            if not data:  # our stdin ended; what reads there sees it as a terminal's end of file
                self.fds.discard(0)
                poll.unregister(0)
                data = b"\x04"
            self.pending += data
        elif not self._out():
            self.fds.discard(self.master)
            poll.unregister(self.master)
            return
        self._in()
        if self.master in self.fds:  # while the program does not read, our stdin waits too
            poll.modify(self.master, select.POLLIN | (select.POLLOUT if self.pending else 0))
        if 0 in self.fds:
            poll.modify(0, 0 if self.pending else select.POLLIN)

    def _in(self) -> None:
        try:
            if self.pending:
                self.pending = self.pending[os.write(self.master, self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the slave open
            self.pending = b""

    def _out(self) -> bool:
        """Copy what the program wrote; False at its end."""
        try:
            data = os.read(self.master, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: the last slave was closed
            return False
        while data:
            data = data[os.write(1, data) :]
        return True

    def drain(self) -> None:
        """What the program wrote last. Descendants of it may keep the slave open: what is there now is enough."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while poll.poll(0) and self._out():
            continue

    def follow_size(self) -> None:
        """Our window has another size now."""
        size = own_size()
        if size is not None:
            resize(self.master, size.height, size.width)

    def restore(self) -> None:
        """Our own terminal as it was."""
        if self.saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self.saved)
            self.saved = None


def own_size() -> ConsoleSize | None:
    """The size of our window (ioctl_tty(2), TIOCGWINSZ), where we have one."""
    try:
        height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(SIZE_BYTES)))
    except OSError:
        return None
    return ConsoleSize(height, width) if height or width else None
