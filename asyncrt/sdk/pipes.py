"""Pipes and terminals in an event loop: no thread, no buffer beside the kernel's own.

    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    Source(read_end).receive()      the bytes that are there, b"" at the end
    Sink(write_end).send(data)      all of them, waiting for room

Each owns its fd and makes it non-blocking; the other end, which goes to a container, stays as it was made.
"""

from __future__ import annotations

import errno
import os
import warnings

import anyio
import anyio.lowlevel
from anyio.abc import ByteSendStream

from asyncrt.errors import Conflict

CHUNK = 64 * 1024  # bytes of one read: what a pipe holds
END_OF_FILE = b"\x04"  # what a terminal that edits lines makes an end of input of (termios(3), VEOF)


class StdinClosed(Conflict, anyio.BrokenResourceError):
    """Nobody reads it any more. A Conflict of asyncrt's tree, and what anyio's streams raise."""


class _End:
    """An fd of ours."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    def close(self) -> None:
        """Wakes who waits for it. Safe to repeat."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            anyio.notify_closing(fd)
            os.close(fd)

    def __del__(self) -> None:
        if (fd := self.__dict__.get("_fd", -1)) >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            os.close(fd)


class Source(_End):
    """The read end of a pipe, or a terminal's master. One job at a time reads."""

    async def receive(self, most: int = CHUNK) -> bytes:
        """At most so many bytes; b"" at the end. anyio.ClosedResourceError once it is closed."""
        await anyio.lowlevel.checkpoint()
        while True:
            if self._fd < 0:
                raise anyio.ClosedResourceError
            try:
                return os.read(self._fd, most)
            except BlockingIOError:
                await anyio.wait_readable(self._fd)
            except OSError as error:
                if error.errno != errno.EIO:  # of a master whose last slave was closed
                    raise
                return b""


class Sink(_End, ByteSendStream):
    """The write end of a pipe, or a terminal's master. `name` is what an error calls it.

    aclose() is the half-close: who reads the other end reads its end. Of a terminal it sends ^D, which is the end of
    input for a program that reads lines, and leaves the output open.
    """

    def __init__(self, fd: int, name: str, terminal: bool = False) -> None:
        super().__init__(fd)
        self._name = name
        self._terminal = terminal

    async def send(self, item: bytes) -> None:
        """All of it, waiting for room. StdinClosed where nobody reads; anyio.ClosedResourceError after aclose()."""
        rest = memoryview(item)
        await anyio.lowlevel.checkpoint()
        while rest:
            if self._fd < 0:
                raise anyio.ClosedResourceError
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._fd)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                raise StdinClosed("write to", self._name, "nobody reads it any more") from None

    async def aclose(self) -> None:
        """Half-close. Safe to repeat."""
        if self._fd >= 0 and self._terminal:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):  # a full terminal takes no ^D
                try:
                    await self.send(END_OF_FILE)
                except StdinClosed:
                    pass  # that end has come by itself
        self.close()
        await anyio.lowlevel.checkpoint()
