"""exec: streams of its own, an exit record of its own, and an end with its block."""

import os

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, killed, to
from tests.engine import Engine

pytestmark = pytest.mark.root

MIB = 1 << 20


@under_both
async def test_streams_and_exit(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        script = "read line; echo got $line; echo error >&2; cat; exit 7"
        async with container.exec(["sh", "-c", script], env={"A": "1"}, workdir="/tmp") as process:
            await process.stdin.send(b"hello\n")
            assert await process.stdout.receive_line() == b"got hello"
            assert await process.stderr.receive_line() == b"error"
            await process.stdin.send(b"rest")
            await process.stdin.aclose()
            assert await process.stdout.read() == b"rest"
            assert (await process.wait()).code == 7
            assert process.exit is not None
            with pytest.raises(asyncrt.Conflict):
                await process.kill()


@under_both
async def test_leaving_the_block_kills_it(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        async with container.exec(["sleep", "601"]) as process:
            assert os.path.exists(f"/proc/{process.pid}")
        assert process.exit is not None
        assert process.exit.signal == 9
        assert not os.path.exists(f"/proc/{process.pid}")
        with anyio.move_on_after(0.3):
            async with container.exec(["sleep", "602"]) as process:
                await process.wait()
        assert not os.path.exists(f"/proc/{process.pid}")
        assert (await container.inspect()).state == "running"


@under_both
async def test_gathered(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        done = await container.execute(["sh", "-c", "cat; echo no >&2; exit 3"], input=b"x" * MIB)
        assert (done.code, len(done.stdout), done.stderr, done.truncated) == (3, MIB, b"no\n", False)
        capped = await container.execute(["sh", "-c", f"yes | head -c {MIB}; echo end >&2"], limit=10)
        assert (capped.code, capped.stdout, capped.stderr, capped.truncated) == (0, b"y\ny\ny\ny\ny\n", b"end\n", True)
        unread = await container.execute(["true"], input=bytes(4 * MIB))
        assert unread.code == 0
        begin = anyio.current_time()
        left = await container.execute(["sh", "-c", "sleep 30 & echo started"])
        assert (left.stdout, anyio.current_time() - begin < 10) == (b"started\n", True)


@under_both
async def test_what_does_not_start(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        for args, code in ((["/no/such"], 127), (["/etc/passwd"], 126)):
            with pytest.raises(asyncrt.StartFailed) as caught:
                await container.execute(args)
            assert caught.value.code == code
        await container.kill()
        await container.wait()
        with pytest.raises(asyncrt.Conflict):
            await container.execute(["true"])
        with pytest.raises(asyncrt.BadRequest, match="one string"):
            await container.execute("true")


@under_both
async def test_fifty_at_once(connect: Connect, image: str) -> None:
    answers = []

    async def one(container: asyncrt.Container, number: int) -> None:
        async with container.exec(["cat"]) as process:
            for turn in range(3):
                await process.stdin.send(b"%d.%d\n" % (number, turn))
                answers.append(await process.stdout.receive_line())

    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        async with anyio.create_task_group() as jobs:
            for number in range(50):
                jobs.start_soon(one, container, number)
    assert sorted(answers) == sorted(b"%d.%d" % (number, turn) for number in range(50) for turn in range(3))


@under_both
async def test_its_exit_code_survives_the_supervisor(engine: Engine, image: str) -> None:
    async with to(engine)() as rt, rt.run(image, ["sleep", "600"]) as container:
        async with container.exec(["sh", "-c", "read x; exit 9"]) as process:
            await killed(rt)
            await process.stdin.send(b"go\n")
            assert (await process.wait()).code == 9


@under_both
async def test_a_terminal(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"]) as container:
        async with container.exec(
            ["sh", "-c", "stty size; read x; stty size; cat"], tty=True, rows=7, columns=70
        ) as it:
            assert (await it.stdout.receive_line()).strip() == b"7 70"
            await it.resize(8, 80)
            await it.stdin.send(b"x\n")
            assert (await it.stdout.receive_line()).strip() == b"x", "its terminal echoes"
            assert (await it.stdout.receive_line()).strip() == b"8 80"
            await it.stdin.aclose()
            assert (await it.wait()).code == 0
            assert await it.stderr.read() == b""
