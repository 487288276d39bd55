"""A container's stdin: from one client's pipe at a time to the container's, by splice(2).

A client that leaves leaves it open, for the next one: it may have died. The half-close is said (close_when_drained), or
agreed on beforehand (`once`: who hands over his own stdin, whose EOF means what it says).
"""

from __future__ import annotations

import os
import select

from shimd.server.log import CHUNK
from shimd.server.streams import Loop


class Stdin:
    """The client's pipe stays as it is: O_NONBLOCK would be set for all who share it, the client's shell perhaps.

    `pipe` is the container's, -1 once closed; `source` the client's, -1 while there is none; `next` comes then.
    """

    __slots__ = ("closing", "loop", "next", "next_once", "once", "pipe", "source")

    def __init__(self, loop: Loop, pipe: int) -> None:
        self.loop = loop
        self.pipe = pipe
        self.source = -1
        self.once = False
        self.next = -1
        self.next_once = False
        self.closing = False
        loop.watch(pipe, 0, self.reader_event)

    def take(self, source: int, once: bool) -> str:
        """Feed from `source`; or why not, and then it stays the caller's."""
        if self.pipe < 0 or self.closing:
            return "its stdin is closed"
        if self.source < 0:
            self._feed_from(source, once)
        elif self.next < 0 and events_of(self.source) & select.POLLHUP:
            self.next, self.next_once = source, once  # nobody writes there any more: what it holds comes first
            self.pump()
        else:
            return "its stdin is taken"
        return ""

    def _feed_from(self, source: int, once: bool) -> None:
        self.source = source
        self.once = once
        self.loop.watch(source, select.POLLIN, self.source_event)

    def close_when_drained(self) -> bool:
        """Close it once what lies in the client's pipe has been taken; False if that was said before."""
        if self.pipe < 0 or self.closing:
            return False
        self.closing = True
        if self.source < 0:
            self.finish()
        else:
            self.pump()
        return True

    def source_event(self, events: int) -> None:
        self.pump()

    def reader_event(self, events: int) -> None:
        if events & (select.POLLERR | select.POLLNVAL):
            self.close()
        elif self.source >= 0:
            self.pump()

    def pump(self) -> None:
        moved = 1
        while moved:
            try:
                moved = self.move()
            except BlockingIOError:
                self._wait()
                return
            except OSError:  # EPIPE: the container closed its end
                self.close()
                return
            if not self.closing and moved:
                return
        self._source_ended()

    def _wait(self) -> None:
        full = not events_of(self.pipe) & select.POLLOUT
        # With room, and a source that has something to say or has ended, it was full and was read since: splice(2) says
        # EAGAIN for a full pipe before it looks whether the source is at its end, and `next` may come behind that.
        if full or (self.closing and events_of(self.source) & (select.POLLIN | select.POLLHUP)):
            self.loop.unwatch(self.source)
            self.loop.watch(self.pipe, select.POLLOUT, self.reader_event)
        elif self.closing:  # the source is empty: that was all
            self.finish()
        else:
            self.loop.watch(self.pipe, 0, self.reader_event)
            self.loop.watch(self.source, select.POLLIN, self.source_event)

    def _source_ended(self) -> None:
        if self.once or (self.closing and self.next < 0):
            self.finish()
            return
        self.leave()
        if self.next >= 0:
            source, self.next = self.next, -1
            self._feed_from(source, self.next_once)
            self.pump()

    def move(self) -> int:
        """Some of what the client has said; 0 at its end. BlockingIOError while there is nothing, or no room."""
        return os.splice(self.source, self.pipe, CHUNK, flags=os.SPLICE_F_NONBLOCK)

    def leave(self) -> None:
        """Let go of the client's pipe."""
        if self.source >= 0:
            self.loop.unwatch(self.source)
            os.close(self.source)
            self.source = -1
        self.loop.watch(self.pipe, 0, self.reader_event)

    def finish(self) -> None:
        """All has been said: the half-close."""
        self.close()

    def close(self) -> None:
        """Close all; the container reads EOF."""
        for fd in (self.source, self.next, self.pipe):
            if fd >= 0:
                self.loop.unwatch(fd)
                os.close(fd)
        self.source = self.next = self.pipe = -1


def events_of(fd: int) -> int:
    """What poll(2) says of it now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    return sum(events for _, events in poll.poll(0))
