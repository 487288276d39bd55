"""Events and logs as they come: in order, without a gap, and on with the next supervisor."""

import time

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, killed, to
from tests.engine import Engine

pytestmark = pytest.mark.root


@under_both
async def test_events_from_a_number_on(connect: Connect, image: str) -> None:
    async with connect() as rt:
        last = (await rt.info())["last_event"]
        async with rt.run(image, ["true"], name="one") as container:
            await container.wait()
        seen = [event async for event in rt.events(last, follow=False)]
        assert [event.action for event in seen if event.name == "one"][:3] == ["create", "start", "die"]
        assert [event.seq for event in seen] == list(range(last + 1, last + 1 + len(seen)))
        again = rt.events(seen[0].seq)
        assert (await anext(again)).seq == seen[1].seq
        await again.aclose()


@under_both
async def test_only_new_events(connect: Connect, image: str) -> None:
    async with connect() as rt:
        actions = []
        async with anyio.create_task_group() as jobs:

            async def listen() -> None:
                async for event in rt.events():
                    actions.append(event.action)
                    if event.action == "destroy":
                        jobs.cancel_scope.cancel()

            jobs.start_soon(listen)
            await anyio.sleep(0.2)
            async with rt.run(image, ["true"]) as container:
                await container.wait()
            await anyio.sleep(10)
        assert actions == ["create", "start", "die", "destroy"]


@under_both
async def test_events_have_no_gap_across_restarts(engine: Engine, image: str) -> None:
    async with to(engine)() as rt:
        seen: list[int] = []
        stream = rt.events(0)
        last, caught_up = -1, anyio.Event()

        async def listen() -> None:
            async for event in stream:
                seen.append(event.seq)
                if event.seq == last:
                    caught_up.set()

        async with anyio.create_task_group() as jobs:
            jobs.start_soon(listen)
            for turn in range(3):
                async with rt.run_many(image, ["true"], count=5) as group:
                    async for _ in group:
                        pass
                    await group.wait()
                if turn < 2:
                    await killed(rt)
            last = (await rt.info())["last_event"] + 1
            await (await rt.create(image, ["true"])).remove()  # an event behind it, so that it is still to come
            with anyio.fail_after(20):
                await caught_up.wait()
            jobs.cancel_scope.cancel()
        await stream.aclose()
        assert seen[: seen.index(last) + 1] == list(range(1, last + 1))


@under_both
async def test_a_log_is_read_and_followed(connect: Connect, image: str) -> None:
    script = "for i in 1 2 3 4 5; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done"
    streams = (("stdout", b"out"), ("stderr", b"err"))
    words = [(stream, b"%s %d\n" % (name, number)) for number in range(1, 6) for stream, name in streams]
    async with connect() as rt, rt.run(image, ["sh", "-c", script]) as container:
        begin = time.time_ns()
        followed = [entry async for entry in container.logs(follow=True)]
        assert [(entry.stream, entry.data) for entry in followed] == words
        assert all(begin - 10**10 < entry.time_ns < time.time_ns() for entry in followed)
        await container.wait()
        assert [entry async for entry in container.logs()] == followed
        assert [entry async for entry in container.logs(tail=3)] == followed[-3:]
        middle = followed[4].time_ns
        assert [entry async for entry in container.logs(since_ns=middle)] == followed[4:]
        assert [entry async for entry in container.logs(until_ns=middle)] == followed[:5]
        some = container.logs()
        assert await anext(some) == followed[0]
        await some.aclose()


@under_both
async def test_a_followed_log_goes_on_with_the_next_supervisor(engine: Engine, image: str) -> None:
    async with to(engine)() as rt:
        script = "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); sleep 0.005; done"
        async with rt.run(image, ["sh", "-c", script]) as container:
            text = b""
            async for entry in container.logs(follow=True):
                text += entry.data
                if text.count(b"\n") in (20, 100):
                    await killed(rt)
            assert text.decode().split("\n")[:-1] == [f"line {n}" for n in range(200)]


@under_both
async def test_a_silent_one_has_an_empty_log(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["true"]) as container:
        assert [entry async for entry in container.logs(follow=True)] == []
        assert [entry async for entry in container.logs(tail=3)] == []
        await container.remove(force=True)
        with pytest.raises(asyncrt.NoSuchObject):
            [entry async for entry in container.logs()]
