"""The shim's event loop: poll(2) over a handful of fds, and a few timers.

No selectors module, no asyncio: a handler per fd in a dict is all a shim needs, and every page it touches is private
memory times the number of containers.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable


class Loop:
    """watch(), unwatch(), at(), and run() until stop()."""

    __slots__ = ("handlers", "poll", "running", "timers")

    def __init__(self) -> None:
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.running = True

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call handler(events) when fd has one of `events`, an error or a hang-up; replaces an earlier watch."""
        self.handlers[fd] = handler
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """Stop watching; fine if it was not watched."""
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Call action once, `delay` seconds from now."""
        self.timers.append((time.monotonic() + delay, action))
        self.timers.sort(key=lambda timer: timer[0])

    def stop(self) -> None:
        self.running = False

    def run(self) -> None:
        while self.running:
            timeout = None
            if self.timers:
                timeout = max(0.0, (self.timers[0][0] - time.monotonic()) * 1000)
            for fd, events in self.poll.poll(timeout):
                handler = self.handlers.get(fd)  # an earlier handler of this round may have closed it
                if handler is not None:
                    handler(events)
            while self.timers and self.timers[0][0] <= time.monotonic():
                _, action = self.timers.pop(0)
                action()
