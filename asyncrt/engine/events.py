"""What happened, for those who listen: from any sequence number on, without a gap, and no listener holds up another.

The newest events are in memory, older ones in the store; a listener is nothing but the number it has reached.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

import trio

from asyncrt.errors import Conflict
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
        """Events with a number above `after`; -1: only those to come, 0: all there are.

        Ends at the newest unless `follow`.
        Conflict where there is a gap: the next ones are trimmed (the cause names the oldest there is; the listener may
        have become too slow for them), or no event had that number yet.
        """
        reached = writer.last_seq if after < 0 else after
        if reached > writer.last_seq:
            cause = f"the newest has number {writer.last_seq}: these records are not those that {reached} came from"
            raise Conflict("read events", f"after {reached}", cause)
        while True:
            changed = self._changed
            while reached < writer.last_seq:
                for event in await self._after(writer, reached):
                    if event.seq > reached + 1 and reached:  # 0: it has seen none, so it misses none
                        cause = f"they are trimmed; the oldest there is has number {event.seq}"
                        raise Conflict("read events", f"after {reached}", cause, f"ask for those after {event.seq - 1}")
                    reached = event.seq
                    yield event
            if not follow:
                return
            await changed.wait()

    async def _after(self, writer: Writer, reached: int) -> list[Event]:
        if self._recent and self._recent[0].seq <= reached + 1:
            return [event for event in self._recent if event.seq > reached][:CHUNK]
        return await writer.events_after(reached, CHUNK)
