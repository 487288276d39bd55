"""Listeners of events: resumed without a gap, and told of a gap that there is."""

from pathlib import Path

import pytest
import trio

from asyncrt.engine.events import Bus
from asyncrt.errors import Conflict
from asyncrt.metadata.changes import AppendEvent
from asyncrt.metadata.writer import Writer, open_writer

Story = list[int]


async def told(bus: Bus, writer: Writer, after: int) -> Story:
    return [event.seq async for event in bus.follow(writer, after, follow=False)]


async def happen(writer: Writer, count: int) -> None:
    await writer.commit([AppendEvent("create", "id", f"box-{number}") for number in range(count)])


async def trimmed(place: Path) -> None:
    """Ten events, of which the last four are kept."""
    async with open_writer(place) as writer:
        await happen(writer, 10)
        await trio.to_thread.run_sync(writer.store.housekeep, 4)


def test_resumed_across_a_restart(tmp_path: Path) -> None:
    async def main() -> None:
        place = tmp_path / "records.db"
        async with open_writer(place) as writer:
            await happen(writer, 3)
        bus = Bus()
        async with open_writer(place, bus.announce) as writer:
            await happen(writer, 2)
            assert await told(bus, writer, 1) == [2, 3, 4, 5]
            assert await told(bus, writer, 5) == []

    trio.run(main)


def test_a_gap_names_the_oldest(tmp_path: Path) -> None:
    async def main() -> None:
        place, bus = tmp_path / "records.db", Bus()
        await trimmed(place)
        async with open_writer(place, bus.announce) as writer:
            assert await told(bus, writer, 6) == [7, 8, 9, 10]
            with pytest.raises(Conflict) as caught:
                await told(bus, writer, 5)
            line = "read events after 5: they are trimmed; the oldest there is has number 7 (ask for those after 6)"
            assert str(caught.value) == line
            assert await told(bus, writer, 0) == [7, 8, 9, 10], "who has seen none misses none"

    trio.run(main)


def test_a_number_that_was_never_given(tmp_path: Path) -> None:
    async def main() -> None:
        place, bus = tmp_path / "records.db", Bus()
        async with open_writer(place, bus.announce) as writer:
            await happen(writer, 3)
            with pytest.raises(Conflict, match="the newest has number 3"):
                await told(bus, writer, 4)

    trio.run(main)
