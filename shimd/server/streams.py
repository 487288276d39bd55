"""The container's streams: from its pipes to the log, from the log to whoever listens.

A byte goes pipe -> log file by splice(2) and log file -> subscriber by sendfile(2), never through this process's
memory (a terminal's does: splice wants a pipe). A subscriber has its own offset into the log; one that does not read
stays behind and slows nobody. What a bounded log has dropped before a subscriber came to it is gone: that one is cut
off, counts, and comes again.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import Protocol

from shimd.server.log import Log

RETRY_SECONDS = 1.0  # between tries on a full disk
DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)
SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # no fd for the log's file just now: as a full disk
FROM_NOW, OLDEST = -2, -3  # offsets of shimd.wire.messages.Attach


class Loop(Protocol):
    """What the shim's event loop offers."""

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def at(self, delay: float, action: Callable[[], None]) -> None: ...


class Follower(Protocol):
    """Who is told that the log has grown."""

    def caught_up(self) -> bool:
        """Take what is new; whether that went well."""
        ...


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
        if self.offset < stream.first:
            self.close()
            return
        try:
            while self.offset < stream.size:
                self.offset += os.sendfile(self.fd, stream.file, self.offset, stream.size - self.offset)
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
    """stdout or stderr: the pipe's read end (non-blocking), its part of the log, those who listen.

    `pipe` is -1 for the stream that a terminal has not: it has ended. `follower` sees to the log in another format.
    """

    __slots__ = ("ended", "follower", "log", "loop", "number", "on_end", "pipe", "stalled", "subscribers")

    def __init__(self, loop: Loop, log: Log, number: int, pipe: int, on_end: Callable[[], None]) -> None:
        self.loop = loop
        self.log = log
        self.number = number
        self.pipe = pipe
        self.on_end = on_end
        self.follower: Follower | None = None
        self.ended = pipe < 0
        self.stalled = False
        """Does a full disk hold bytes back in the pipe?"""
        self.subscribers: list[Subscriber] = []
        if pipe >= 0:
            loop.watch(pipe, select.POLLIN, self.readable)

    @property
    def size(self) -> int:
        return self.log.sizes[self.number]

    @property
    def first(self) -> int:
        return self.log.firsts[self.number]

    @property
    def file(self) -> int:
        return self.log.files[self.number]

    def readable(self, events: int) -> None:
        """Move what is there to the log and on to the subscribers."""
        if self.file < 0 and not events & select.POLLIN:
            self.end()  # it never said a word, and no file was made for it
            return
        try:
            moved = self.arrive()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (*DISK_TROUBLE, *SHORTAGE):
                raise
            # The bytes stay in the pipe: the container waits, nothing is lost. Try again when somebody made room.
            self.stalled = True
            self.loop.unwatch(self.pipe)
            self.loop.at(RETRY_SECONDS, self.resume)
        else:
            if moved == 0:
                self.end()
        self.spread()

    def arrive(self) -> int:
        """Take what is there into the log: how much, 0 at the end. BlockingIOError if there is nothing."""
        return self.log.splice(self.pipe, self.number)

    def spread(self) -> None:
        """To those who listen."""
        if self.follower is not None:
            self.follower.caught_up()
        for subscriber in tuple(self.subscribers):
            subscriber.pump()

    def resume(self) -> None:
        self.stalled = False
        if not self.ended:
            self.loop.watch(self.pipe, select.POLLIN, self.readable)
            self.readable(select.POLLIN)

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

    def open(self) -> int:
        """Have the log's file, if there is or was anything in it; its first byte that is kept."""
        if self.file < 0 and self.log.exists(self.number):
            self.log.open(self.number)
        return self.first

    def subscribe(self, fd: int, offset: int) -> int:
        """Send the stream from `offset` into the pipe `fd`, which is the stream's from here on; where that begins."""
        self.open()
        begin = {FROM_NOW: self.size, OLDEST: self.first}.get(offset, offset)
        subscriber = Subscriber(self.loop, self, fd, begin)
        self.subscribers.append(subscriber)
        subscriber.pump()
        return begin
