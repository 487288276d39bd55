"""stdin: what is sent arrives, the half-close is heard, and who does not read holds up who writes."""

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, killed, to
from tests.engine import Engine

pytestmark = pytest.mark.root

MIB = 1 << 20


@under_both
async def test_there_and_back(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["cat"], stdin=True) as container:
        for number in range(50):
            await container.stdin.send(b"%d\n" % number)
            assert await container.stdout.receive_line() == b"%d" % number
        await container.stdin.send(b"last")
        await container.stdin.aclose()
        assert await container.stdout.read() == b"last"
        assert (await container.wait()).code == 0
        with pytest.raises(anyio.ClosedResourceError):
            await container.stdin.send(b"x")


@under_both
async def test_a_half_close_without_a_byte(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["wc", "-c"], stdin=True) as container:
        await container.stdin.aclose()
        await container.stdin.aclose()
        assert (await container.stdout.read()).strip() == b"0"


@under_both
async def test_megabytes_both_ways(connect: Connect, image: str) -> None:
    data = b"".join(b"%015d\n" % number for number in range(MIB // 4))
    async with connect() as rt, rt.run(image, ["cat"], stdin=True) as container:

        async def feed() -> None:
            await container.stdin.send(data)
            await container.stdin.aclose()

        async with anyio.create_task_group() as jobs:
            jobs.start_soon(feed)
            assert await container.stdout.read() == data


@under_both
async def test_a_container_that_does_not_read_holds_up_who_writes(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"], stdin=True) as container:
        with anyio.move_on_after(0.5) as scope:
            await container.stdin.send(bytes(4 * MIB))
        assert scope.cancelled_caught


@under_both
async def test_errors(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run(image, ["true"], stdin=True) as container:
            await container.wait()
            with pytest.raises(asyncrt.Conflict):
                await container.stdin.send(bytes(MIB))
            await container.stdin.aclose()
        async with rt.run(image, ["sleep", "600"]) as container:
            with pytest.raises(asyncrt.Conflict, match="stdin=True"):
                await container.stdin.send(b"x")
        async with rt.run(image, ["sleep", "600"], stdin=True) as container:
            await container.stdin.send(b"x")
            other = await rt.get(container.name)
            with pytest.raises(asyncrt.Conflict, match="taken"):
                await other.stdin.send(b"y")


@under_both
async def test_another_client_goes_on_where_one_left(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["cat"], stdin=True) as container:
        async with connect() as elsewhere:
            first = await elsewhere.get(container.name)
            await first.stdin.send(b"one ")
            assert await container.stdout.receive() == b"one "
            first.close()
        second = await rt.get(container.name)
        with anyio.fail_after(10):
            while True:
                try:
                    await second.stdin.send(b"two")
                    break
                except asyncrt.Conflict:  # the shim has not heard yet that the first is gone
                    await anyio.sleep(0.01)
        await second.stdin.aclose()
        assert await container.stdout.read() == b"two"


@under_both
async def test_a_restart_of_the_supervisor_is_invisible(engine: Engine, image: str) -> None:
    async with to(engine)() as rt, rt.run(image, ["cat"], stdin=True) as container:
        await container.stdin.send(b"before ")
        await killed(rt)
        await container.stdin.send(b"meanwhile ")
        await rt.version()
        await container.stdin.send(b"after")
        await container.stdin.aclose()
        assert await container.stdout.read() == b"before meanwhile after"
