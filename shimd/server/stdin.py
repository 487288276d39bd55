"""A container's stdin: from one client's pipe at a time to the container's, by splice(2).

A client that leaves leaves it open, for the next one: it may have died. The half-close is said (close_when_drained), or
agreed on beforehand (`once`: who hands over his own stdin, whose EOF means what it says).
"""

from __future__ import annotations

import os
import select

from shimd.server.streams import CHUNK, Loop


class Stdin:
    """`pipe` is the container's, -1 once it is closed; `source` the client's, -1 while there is none."""

    __slots__ = ("closing", "loop", "once", "pipe", "source")

    def __init__(self, loop: Loop, pipe: int) -> None:
        self.loop = loop
        self.pipe = pipe
        self.source = -1
        self.once = False
        self.closing = False
        loop.watch(pipe, 0, self.reader_event)

    def take(self, source: int, once: bool) -> str:
        """Feed from `source`; or why not, and then it stays the caller's."""
        if self.pipe < 0 or self.closing:
            return "its stdin is closed"
        if self.source >= 0:
            return "its stdin is taken"
        self.source = source
        self.once = once
        os.set_blocking(source, False)
        self.loop.watch(source, select.POLLIN, self.source_event)
        return ""

    def close_when_drained(self) -> bool:
        """Close it once what lies in the client's pipe has been taken; False if that was said before."""
        if self.pipe < 0 or self.closing:
            return False
        self.closing = True
        if self.source < 0:
            self.close()
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
                moved = os.splice(self.source, self.pipe, CHUNK, flags=os.SPLICE_F_NONBLOCK)
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
        if not _room(self.pipe):
            self.loop.unwatch(self.source)
            self.loop.watch(self.pipe, select.POLLOUT, self.reader_event)
        elif self.closing:  # the source is empty: that was all
            self.close()
        else:
            self.loop.watch(self.pipe, 0, self.reader_event)
            self.loop.watch(self.source, select.POLLIN, self.source_event)

    def _source_ended(self) -> None:
        if self.once or self.closing:
            self.close()
            return
        self.loop.unwatch(self.source)
        os.close(self.source)
        self.source = -1
        self.loop.watch(self.pipe, 0, self.reader_event)

    def close(self) -> None:
        """Close both; the container reads EOF."""
        for fd in (self.source, self.pipe):
            if fd >= 0:
                self.loop.unwatch(fd)
                os.close(fd)
        self.source = self.pipe = -1


def _room(pipe: int) -> bool:
    """Does a write to the pipe take something now?"""
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return any(events & select.POLLOUT for _, events in poll.poll(0))
