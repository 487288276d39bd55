"""What happened, for those who listen: from any sequence number on, without a gap, and no listener holds up another.

The newest events are in memory, older ones in the store; a listener is nothing but the number it has reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

import trio

from asyncrt.metadata.writer import Writer
from asyncrt.model.events import Event

KEPT_IN_MEMORY = 4096
CHUNK = 1000


class Bus:
    """announce() is the writer's; follow() is the listeners'."""

    def __init__(self) -> None:
        self._recent: deque[Event] = deque(maxlen=KEPT_IN_MEMORY)
        self._changed = trio.Event()

    def announce(self, events: Sequence[Event]) -> None:
        """Committed events, in order."""
        self._recent.extend(events)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def something(self) -> None:
        """The next event, whatever it is."""
        await self._changed.wait()

    async def follow(self, writer: Writer, after: int, follow: bool) -> AsyncIterator[Event]:
        """Events with a number above `after`; -1: only those to come. Ends at the newest unless `follow`."""
        reached = writer.last_seq if after < 0 else after
        while True:
            changed = self._changed
            while reached < writer.last_seq:
                for event in await self._after(writer, reached):
                    reached = event.seq
                    yield event
            if not follow:
                return
            await changed.wait()

    async def _after(self, writer: Writer, reached: int) -> list[Event]:
        if self._recent and self._recent[0].seq <= reached + 1:
            return [event for event in self._recent if event.seq > reached][:CHUNK]
        return await writer.events_after(reached, CHUNK)
