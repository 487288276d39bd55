"""Many at once: each as it starts, failures where they belong, and nothing left behind the block."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, killed, to
from tests.engine import Engine

pytestmark = pytest.mark.root


async def all_of(
    many: AbstractAsyncContextManager[asyncrt.Group], then: Callable[[], Awaitable[object]] | None = None
) -> None:
    """All of them, whatever they are; `then` is done at the tenth."""
    async with many as group:
        async for _ in group:
            if then is not None and len(group.containers) == 10:
                await then()


@under_both
async def test_a_count(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run_many(image, ["sh", "-c", "echo $ASYNCRT_INDEX; exit $ASYNCRT_INDEX"], count=20) as group:
            seen = {container.index: (await container.stdout.read()).decode() async for container in group}
            assert seen == {number: f"{number}\n" for number in range(20)}
            codes = {one.index: ended.code for one, ended in zip(group.containers, await group.wait(), strict=True)}
            assert codes == {number: number for number in range(20)}
            assert (group.count, group.failed) == (20, [])
        assert await rt.list(all=True) == []


@under_both
async def test_a_list_of_different_ones(connect: Connect, image: str) -> None:
    specs = [asyncrt.Options(image=image, args=("echo", str(number // 2))) for number in range(6)]
    async with connect() as rt:
        async with rt.run_many(specs) as group:
            seen = {container.index: await container.stdout.read() async for container in group}
            assert seen == {number: b"%d\n" % (number // 2) for number in range(6)}
        assert await rt.list(all=True) == []


@under_both
async def test_a_start_that_fails_is_raised_or_kept(connect: Connect, image: str) -> None:
    good, bad = asyncrt.Options(image=image, args=("true",)), asyncrt.Options(image=image, args=("/no/such",))
    async with connect() as rt:
        with pytest.raises(asyncrt.StartFailed):
            await all_of(rt.run_many([good, bad, bad, good]))
        assert await rt.list(all=True) == []
        async with rt.run_many([good, bad, bad, good, bad], strict=False) as group:
            started = {container.index async for container in group}
            assert started == {0, 3}
            assert sorted((number, error.code) for number, _, error in group.failed) == [(1, 127), (2, 127), (4, 127)]
        assert await rt.list(all=True) == []


@under_both
async def test_leaving_early_takes_back_what_is_on_its_way(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run_many(image, ["sleep", "600"], count=30) as group:
            async for _ in group:
                break
        assert await rt.list(all=True) == []
        with anyio.move_on_after(0.02):
            async with rt.run_many(image, ["sleep", "600"], count=30) as group:
                await group.wait()
                await anyio.sleep_forever()
        assert await rt.list(all=True) == []


@under_both
async def test_a_deadline_for_all_starts(connect: Connect, image: str) -> None:
    async with connect() as rt:
        with pytest.raises(asyncrt.TimedOut, match="start 200 containers"):
            await all_of(rt.run_many(image, ["sleep", "600"], count=200, timeout=0.05))
        assert await rt.list(all=True) == []
        with pytest.raises(asyncrt.BadRequest):
            rt.run_many(image, ["true"], count=0)
        with pytest.raises(asyncrt.BadRequest):
            rt.run_many([asyncrt.Options(image=image)], count=2)


@under_both
async def test_a_supervisor_that_dies_in_between(engine: Engine, image: str) -> None:
    """The iteration says so; what had been made is removed by the next one."""
    async with to(engine)() as rt:
        with pytest.raises(asyncrt.Unavailable):
            await all_of(rt.run_many(image, ["sleep", "600"], count=100), lambda: killed(rt))
        assert await rt.list(all=True) == []
