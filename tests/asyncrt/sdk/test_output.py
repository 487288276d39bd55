"""Every byte that a container writes comes, in order, once; also when the supervisor dies while it is read."""

import hashlib

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, killed, to
from tests.engine import Engine

pytestmark = pytest.mark.root

MIB = 1 << 20
# Numbered lines, so that a lost, doubled or swapped byte shows.
NUMBERS = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
LINES = [f"line {n}" for n in range(20000)]


@under_both
async def test_bytes_and_lines(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run(image, ["sh", "-c", NUMBERS]) as container:
            assert [line async for line in container.stdout.lines()] == LINES
            assert await container.stdout.read() == b"", "the end is the end"
            assert container.stdout.offset == sum(len(line) + 1 for line in LINES)
            assert [line async for line in container.output().lines()] == LINES, "as often as one likes"
            other = container.output(offset=len("line 0\n"))
            assert await other.receive_line() == b"line 1"
            assert other.offset == len("line 0\nline 1\n")
        async with rt.run(image, ["printf", r"a\n\nb\xff\nno end"]) as container:
            assert [line async for line in container.stdout.lines()] == ["a", "", "b�", "no end"]


@under_both
async def test_lines_may_be_left_and_gone_on_with(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sh", "-c", "echo one; echo two; echo three"]) as container:
        async for line in container.stdout.lines():
            assert line == "one"
            break
        assert await container.stdout.receive(3) == b"two"
        assert await container.stdout.read() == b"\nthree\n"


@under_both
async def test_a_line_without_an_end_comes_in_pieces(connect: Connect, image: str) -> None:
    async with (
        connect() as rt,
        rt.run(image, ["sh", "-c", "yes | tr -d '\\n' | head -c 100; echo; echo x"]) as container,
    ):
        lines = [line async for line in container.stdout.lines(limit=40)]
        assert [len(line) for line in lines] == [40, 40, 20, 1]


@under_both
async def test_both_streams_at_once_and_a_slow_reader_holds_up_nobody(connect: Connect, image: str) -> None:
    script = f"yes out | head -c {4 * MIB}; yes error | head -c {4 * MIB} >&2"
    async with connect() as rt, rt.run(image, ["sh", "-c", script]) as container:
        assert (await container.wait(timeout=30)).code == 0, "it ends though nobody reads"
        sums = {}

        async def read(name: str, stream: asyncrt.Container) -> None:
            sums[name] = hashlib.sha256()
            async for chunk in getattr(stream, name):
                sums[name].update(chunk)

        async with anyio.create_task_group() as jobs:
            jobs.start_soon(read, "stdout", container)
            jobs.start_soon(read, "stderr", container)
        for name, word in (("stdout", b"out\n"), ("stderr", b"error\n")):
            assert sums[name].digest() == hashlib.sha256((word * MIB)[: 4 * MIB]).digest()


@under_both
async def test_a_restart_of_the_supervisor_is_invisible(engine: Engine, image: str) -> None:
    """Killed while lines come, before the first is read, and after the container ended with most of it unread."""
    async with to(engine)() as rt:
        slow = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; exit 4"
        async with rt.run(image, ["sh", "-c", slow]) as container:
            lines = []
            async for line in container.stdout.lines():
                lines.append(line)
                if len(lines) in (20, 120):
                    await killed(rt)
            assert lines == LINES[:300]
            assert (await container.wait()).code == 4
        script = f"{NUMBERS}; yes | head -c {4 * MIB}"
        async with rt.run(image, ["sh", "-c", script]) as container:
            await killed(rt)
            await container.wait()
            whole = "\n".join(LINES).encode() + b"\n" + b"y\n" * (2 * MIB)
            begun = await container.stdout.receive(100)
            await killed(rt)  # it sends what is left of the log itself
            assert begun + await container.stdout.read() == whole
        assert await rt.list(all=True) == []


@under_both
async def test_a_wait_goes_on_with_the_next_supervisor(engine: Engine, image: str) -> None:
    async with to(engine)() as rt, rt.run(image, ["sh", "-c", "sleep 1; exit 6"]) as container:
        codes = []

        async def waits() -> None:
            codes.append((await container.wait()).code)

        async with anyio.create_task_group() as jobs:
            for _ in range(3):
                jobs.start_soon(waits)
            await anyio.sleep(0.2)
            await killed(rt)
        assert codes == [6] * 3


@under_both
async def test_a_reader_of_a_bounded_log_hears_of_what_was_dropped(connect: Connect, image: str) -> None:
    script = f"yes | head -c {2 * MIB}; echo done"
    async with connect() as rt, rt.run(image, ["sh", "-c", script], log_max_bytes=256 * 1024) as container:
        await container.wait()
        with pytest.raises(asyncrt.Conflict, match="begins at byte"):
            await container.stdout.read()
        newest = container.output(offset=asyncrt.OLDEST)
        data = await newest.read()
        assert data.endswith(b"y\ndone\n")
        assert len(data) <= 256 * 1024
        assert newest.offset == 2 * MIB + len("done\n")
