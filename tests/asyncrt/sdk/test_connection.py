"""Calls in an event loop against a fake supervisor: side by side, cancelled, timed out, lost, and made again."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import asyncrt
from asyncrt.errors import Conflict, TimedOut, Unavailable
from asyncrt.model.options import Options
from asyncrt.model.protocol import Info, Run, Version, Wait
from asyncrt.sdk.connection import Reach
from asyncrt.sdk.deadlines import within
from asyncrt.sdk.places import Places
from tests.asyncrt.fake_supervisor import FakeSupervisor
from tests.asyncrt.sdk.backends import under_both


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSupervisor]:
    with FakeSupervisor(tmp_path / "s") as made:
        yield made


@pytest.fixture
def reach(fake: FakeSupervisor) -> Reach:
    return Reach(Places(socket=fake.path), start=False)


def sh(script: str) -> Options:
    return Options(image="host:", args=("sh", "-c", script))


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def started(reach: Reach, script: str) -> str:
    answer, _ = await reach.call(Run(sh(script)))
    return [value["id"] async for value, _ in answer][-1]


@under_both
async def test_items_come_as_they_happen_and_the_end_is_the_result(reach: Reach, fake: FakeSupervisor) -> None:
    answer, _ = await reach.call(Run(sh("true"), 3))
    seen = [value["step"] async for value, _ in answer]
    assert sorted(seen) == ["created"] * 3 + ["started"] * 3
    assert await answer.result() == list(fake.containers)
    reach.close()


@under_both
async def test_a_hundred_calls_on_one_connection_do_not_wait_for_each_other(reach: Reach, fake: FakeSupervisor) -> None:
    ended: list[int] = []

    async def one(number: int) -> None:
        id = await started(reach, f"sleep 0.{number % 3}; exit {number}")
        (progress,) = await reach.ask(Wait((id,)))
        ended.append(progress["exit"]["code"])

    async with anyio.create_task_group() as jobs:
        for number in range(100):
            jobs.start_soon(one, number)
    assert sorted(ended) == list(range(100))
    assert len(fake._connections) == 1
    reach.close()


@under_both
async def test_a_cancelled_reader_hands_the_reading_on(reach: Reach) -> None:
    """Of the jobs that wait one reads for all: it leaves, and the others still hear."""
    slow = await started(reach, "sleep 30")
    quick = await started(reach, "sleep 0.4; exit 5")
    codes: list[int] = []

    async def waits() -> None:
        (progress,) = await reach.ask(Wait((quick,)))
        codes.append(progress["exit"]["code"])

    async with anyio.create_task_group() as jobs:
        with anyio.move_on_after(0.1):
            async with anyio.create_task_group() as first:
                first.start_soon(reach.ask, Wait((slow,)))
                await anyio.sleep(0.02)
                jobs.start_soon(waits)
        begin = anyio.current_time()
    assert codes == [5]
    assert anyio.current_time() - begin < 5
    reach.close()


@under_both
async def test_a_deadline_is_an_error_of_the_tree_and_a_timeout_error(reach: Reach) -> None:
    id = await started(reach, "sleep 30")
    with (
        pytest.raises(TimedOut, match=r"wait for box: not done within 0.1 s") as caught,
        within(0.1, "wait for", "box"),
    ):
        await reach.ask(Wait((id,)))
    assert isinstance(caught.value, TimeoutError)
    assert (await reach.ask(Version()))["version"] == "fake", "the connection goes on"
    reach.close()


@under_both
async def test_calls_that_wait_end_as_unavailable_when_the_supervisor_dies(reach: Reach, fake: FakeSupervisor) -> None:
    id = await started(reach, "sleep 30")
    errors: list[Unavailable] = []

    async def waits() -> None:
        try:
            await reach.ask(Wait((id,)))
        except Unavailable as error:
            errors.append(error)

    async with anyio.create_task_group() as jobs:
        for _ in range(3):
            jobs.start_soon(waits)
        await anyio.sleep(0.1)
        fake.vanish()
    assert [error.cause for error in errors] == ["supervisor went away"] * 3
    assert (await reach.ask(Version()))["version"] == "fake", "the next call finds the next supervisor"
    reach.close()


@under_both
async def test_a_call_on_a_dead_connection_is_put_to_the_next_supervisor(reach: Reach, fake: FakeSupervisor) -> None:
    await reach.ask(Version())
    fake.vanish()
    assert (await reach.ask(Version()))["version"] == "fake"
    fake.vanish(back=False)
    with pytest.raises(Unavailable, match="no such socket"):
        await reach.ask(Version())
    reach.close()
    fake.listen()


@under_both
async def test_closing_wakes_who_waits(reach: Reach) -> None:
    id = await started(reach, "sleep 30")
    async with anyio.create_task_group() as jobs:

        async def waits() -> None:
            with pytest.raises(Unavailable, match="closed"):
                await reach.ask(Wait((id,)))

        jobs.start_soon(waits)
        await anyio.sleep(0.05)
        reach.close()
    with pytest.raises(Unavailable, match="the runtime was closed"):
        await reach.ask(Info())


@under_both
async def test_nothing_is_left_open(reach: Reach, fake: FakeSupervisor) -> None:
    await reach.ask(Version())
    reach.close()
    await anyio.sleep(0.05)  # the fake's own end; where that took longer, there is more before
    before = open_fds()
    other = Reach(Places(socket=fake.path), start=False)
    await other.ask(Version())
    other.close()
    for _ in range(1000):  # the fake closes its end when it has heard of it
        if open_fds() <= before:
            break
        await anyio.sleep(0.01)
    assert open_fds() <= before


@under_both
async def test_a_refusal_is_the_error_that_the_supervisor_named(reach: Reach) -> None:
    answer, _ = await reach.call(Run(Options(image="host:", args=("sleep", "30"), name="one")))
    await answer.result()
    answer, _ = await reach.call(Run(Options(image="host:", args=("true",), name="one")))
    with pytest.raises(Conflict, match=r"create one: the name is in use \(asyncrt rm one\)"):
        await answer.result()
    reach.close()


@under_both
async def test_cancelling_the_connecting_leaves_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from asyncrt.sdk import door

    entered, made = threading.Event(), []
    dial = door.dial

    def slow(path: str) -> object:
        entered.set()
        time.sleep(0.3)
        made.append(dial(path))
        return made[-1]

    monkeypatch.setattr(door, "dial", slow)
    with FakeSupervisor(tmp_path / "slow") as fake:
        with anyio.move_on_after(0.1):
            async with asyncrt.connect(fake.path, start=False):
                raise AssertionError("it was cancelled before")
        assert entered.is_set()
        await anyio.sleep(0.4)
        assert [link.fileno() for link in made] == [-1]


@under_both
async def test_what_the_block_raises_comes_out_as_itself(fake: FakeSupervisor) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with asyncrt.connect(fake.path, start=False):
            raise KeyError("mine")
