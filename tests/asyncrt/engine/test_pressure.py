"""Pressure: the kernel tells who waits too long, and nobody has to ask."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import asyncrt
from asyncrt.errors import BadRequest
from asyncrt.supervisor.pressure import Trigger, trigger
from shimd.linux import cgroups
from tests.engine import Engine
from tests.oom.fates import events

SPIN = "while :; do :; done"
CROWD = " & ".join([SPIN] * 4) + " & wait"  # more than there are cores


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("disk", 1, 0, 2_000_000), "there is no such account"),
        (("cpu", 0, 0, 2_000_000), "one of some_us and full_us is needed"),
        (("cpu", 1, 1, 2_000_000), "one of some_us and full_us is needed"),
        (("cpu", 1, 0, 1000), "a window of 1000 us cannot be watched"),
        (("cpu", 3_000_000, 0, 2_000_000), "do not fit into"),
        (("cpu", -1, 0, 2_000_000), "do not fit into"),
    ],
)
def test_what_no_kernel_takes(words: tuple[str, int, int, int], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        trigger(*words)


def test_a_trigger() -> None:
    assert trigger("memory", 0, 5, 500_000) == Trigger("memory", "full", 5, 500_000)


@asynccontextmanager
async def runtime(engine: Engine) -> AsyncIterator[asyncrt.Runtime]:
    async with asyncrt.connect(str(engine.socket), root=str(engine.root), state=str(engine.state), start=False) as rt:
        yield rt


def watchable(engine: Engine) -> bool:
    tree = cgroups.accounts()
    return tree is not None and os.path.exists("/proc/pressure/cpu") and bool(engine)


@pytest.mark.root
async def test_a_container_that_waits(shared: Engine, image: str) -> None:
    if not watchable(shared):
        pytest.skip("this kernel keeps no accounts of pressure by cgroup")
    async with runtime(shared) as rt, rt.run(image, ["sh", "-c", CROWD], cpus=0.5) as container:
        readings = container.pressure("cpu", some_us=100_000)
        with trio.fail_after(60):
            first = await anext(readings)
            second = await anext(readings)
        assert second.some_total_us > first.some_total_us > 0
        await readings.aclose()
    told = [event for event in events(shared)[container.id] if event["action"] == "cpu_pressure"]
    assert len(told) >= 2
    assert told[0]["attributes"]["stall_us"] == 100_000


@pytest.mark.root
async def test_an_exec_counts_too(shared: Engine, image: str) -> None:
    """On a hybrid machine its processes are moved to where the accounts are: also one that comes later."""
    if not watchable(shared):
        pytest.skip("this kernel keeps no accounts of pressure by cgroup")
    async with runtime(shared) as rt, rt.run(image, ["sleep", "600"]) as container:
        readings = container.pressure("cpu", some_us=100_000)
        await readings.begin()
        async with container.exec(["sh", "-c", CROWD]):
            with trio.fail_after(60):
                assert (await anext(readings)).some_total_us > 0
        await readings.aclose()


@pytest.mark.root
async def test_it_ends_with_the_container(shared: Engine, image: str) -> None:
    if not watchable(shared):
        pytest.skip("this kernel keeps no accounts of pressure by cgroup")
    async with runtime(shared) as rt, rt.run(image, ["sleep", "600"]) as container:
        readings = container.pressure("memory", full_us=1_000_000)
        await readings.begin()
        await container.kill()
        with trio.fail_after(30):
            assert [reading async for reading in readings] == []
        with pytest.raises(asyncrt.Conflict, match="it is not running"):
            await anext(container.pressure("memory", some_us=1))
    with pytest.raises(asyncrt.NoSuchObject):
        await anext(container.pressure("memory", some_us=1))
