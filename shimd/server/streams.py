"""The container's streams: from its pipes to the log, from the log to whoever listens.

A byte goes pipe -> log file by splice(2) and log file -> subscriber by sendfile(2), never through this process's
memory. A subscriber has its own offset into the log; one that does not read stays behind and slows nobody. The log
is three files, made when there is something to write: `stdout` and `stderr` raw, and `index`, a record of 16 bytes
per arrival (INDEX: time in ns since 1970, length, stream number), which tells their order.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Protocol

INDEX = struct.Struct("<QIB3x")
CHUNK = 1 << 20  # bytes per splice; the kernel moves at most what the pipe holds
NAMES = {1: "stdout", 2: "stderr"}
RETRY_SECONDS = 1.0  # between tries on a full disk
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)


class Loop(Protocol):
    """What the shim's event loop offers."""

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def at(self, delay: float, action: Callable[[], None]) -> None: ...


class Subscriber:
    """A pipe that wants a stream from an offset on."""

    __slots__ = ("fd", "loop", "offset", "stream")

    def __init__(self, loop: Loop, stream: Stream, fd: int, offset: int) -> None:
        self.loop = loop
        self.stream = stream
        self.fd = fd
        self.offset = offset
        os.set_blocking(fd, False)
        loop.watch(fd, 0, self.writable)  # with no events asked for, poll still tells when the reader is gone

    def writable(self, events: int) -> None:
        if events & (select.POLLERR | select.POLLNVAL):
            self.close()
        else:
            self.pump()

    def pump(self) -> None:
        """Send until it would block or all is sent."""
        stream = self.stream
        try:
            while self.offset < stream.size:
                self.offset += os.sendfile(self.fd, stream.log, self.offset, stream.size - self.offset)
        except BlockingIOError:
            self.loop.watch(self.fd, select.POLLOUT, self.writable)
            return
        except OSError:  # EPIPE: the reader is gone
            self.close()
            return
        if stream.ended:
            self.close()
        else:
            self.loop.watch(self.fd, 0, self.writable)

    def close(self) -> None:
        self.loop.unwatch(self.fd)
        os.close(self.fd)
        self.stream.subscribers.remove(self)


class Stream:
    """stdout or stderr: the pipe's read end (non-blocking), the log, those who listen."""

    __slots__ = (
        "directory",
        "ended",
        "index",
        "log",
        "loop",
        "number",
        "on_end",
        "owed",
        "pipe",
        "size",
        "stalled",
        "subscribers",
    )

    def __init__(self, loop: Loop, number: int, pipe: int, directory: str, on_end: Callable[[], None]) -> None:
        self.loop = loop
        self.number = number
        self.pipe = pipe
        self.directory = directory
        self.on_end = on_end
        self.log = -1
        self.index = -1
        self.size = 0
        """Bytes in the log."""
        self.ended = False
        self.stalled = False
        """Does a full disk hold bytes back in the pipe?"""
        self.owed = b""
        """Index records of bytes that are in the log already."""
        self.subscribers: list[Subscriber] = []
        loop.watch(pipe, select.POLLIN, self.readable)

    def readable(self, events: int) -> None:
        """Move what is there to the log and on to the subscribers."""
        if self.log < 0 and not events & select.POLLIN:
            self.end()  # it never said a word, and no file was made for it
            return
        try:
            if self.log < 0:
                self._open()
            self._pay()
            moved = os.splice(self.pipe, self.log, CHUNK, offset_dst=self.size, flags=os.SPLICE_F_NONBLOCK)
            if moved:
                self.size += moved
                self.owed = INDEX.pack(time.time_ns(), moved, self.number)
                self._pay()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            # The bytes stay in the pipe: the container waits, nothing is lost. Try again when somebody made room.
            self.stalled = True
            self.loop.unwatch(self.pipe)
            self.loop.at(RETRY_SECONDS, self.resume)
        else:
            if moved == 0:
                self.end()
        for subscriber in tuple(self.subscribers):
            subscriber.pump()

    def _pay(self) -> None:
        """The index record that is owed; records do not straddle a block, so it is written whole or not at all."""
        if self.owed:
            os.write(self.index, self.owed)
            self.owed = b""

    def resume(self) -> None:
        self.stalled = False
        if not self.ended:
            self.loop.watch(self.pipe, select.POLLIN, self.readable)
            self.readable(select.POLLIN)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        log = os.open(f"{self.directory}/{NAMES[self.number]}", flags, 0o600)
        try:
            self.index = os.open(f"{self.directory}/index", flags | os.O_APPEND, 0o600)
        except OSError:
            os.close(log)
            raise
        self.log = log
        self.size = os.fstat(log).st_size  # a container that is started again goes on where its log ended

    def end(self) -> None:
        """No more will come."""
        if self.ended:
            return
        self.ended = True
        self.loop.unwatch(self.pipe)
        os.close(self.pipe)
        for subscriber in tuple(self.subscribers):
            subscriber.pump()
        self.on_end()

    def subscribe(self, fd: int, offset: int) -> int:
        """Send the stream from `offset` (-2: from now, -3: the oldest) into `fd`, which is the stream's from here on.

        Gives where that is.
        """
        if self.log < 0 and os.path.exists(f"{self.directory}/{NAMES[self.number]}"):
            self._open()
        begin = {-2: self.size, -3: 0}.get(offset, offset)
        subscriber = Subscriber(self.loop, self, fd, begin)
        self.subscribers.append(subscriber)
        subscriber.pump()
        return begin
