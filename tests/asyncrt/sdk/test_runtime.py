"""A container lives inside its block, whatever ends that."""

import os
import signal

import anyio
import pytest

import asyncrt
from tests.asyncrt.sdk.backends import under_both
from tests.asyncrt.sdk.conftest import Connect, to
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


@under_both
async def test_a_container_lives_inside_its_block(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run(image, ["sleep", "600"], name="guest") as container:
            assert [record.name for record in await rt.list()] == ["guest"]
            record = await container.inspect()
            assert (record.state, record.pid) == ("running", container.pid)
            assert os.path.exists(f"/proc/{container.pid}")
        assert await rt.list(all=True) == []
        assert not os.path.exists(f"/proc/{container.pid}")
        with pytest.raises(asyncrt.NoSuchObject):
            await container.inspect()


@under_both
async def test_the_exit_record_is_whole(connect: Connect, image: str) -> None:
    async with connect() as rt:
        async with rt.run(image, ["sh", "-c", "echo out; echo error >&2; exit 3"]) as container:
            ended = await container.wait()
            assert (ended.code, ended.signal, ended.stdout_bytes, ended.stderr_bytes) == (3, 0, 4, 6)
            assert ended.started_ns < ended.ended_ns
            assert ended.cpu_ns > 0
            assert await container.stdout.read() == b"out\n", "its log stays until the block is left"
        async with rt.run(image, ["sleep", "600"]) as container:
            await container.kill(signal.SIGTERM)
            await container.kill()
            assert ((await container.wait()).code, container.exit.signal if container.exit else 0) == (137, 9)


@under_both
async def test_cancelling_kills_and_removes(connect: Connect, image: str) -> None:
    async with connect() as rt:
        with anyio.move_on_after(0.5) as scope:
            async with rt.run(image, ["sleep", "600"]) as container:
                await container.wait()
        assert scope.cancelled_caught
        assert not os.path.exists(f"/proc/{container.pid}")
        assert await rt.list(all=True) == []


@under_both
async def test_cancelling_a_start_leaves_nothing(connect: Connect, image: str) -> None:
    async with connect() as rt:
        for number in range(6):
            with anyio.move_on_after(0.001 * number):
                async with rt.run(image, ["sleep", "600"]):
                    await anyio.sleep_forever()
        assert await rt.list(all=True) == []


@under_both
async def test_what_the_block_raises_comes_out_as_itself(connect: Connect, image: str) -> None:
    async with connect() as rt:
        with pytest.raises(KeyError, match="mine"):
            async with rt.run(image, ["sleep", "600"]):
                raise KeyError("mine")
        assert await rt.list(all=True) == []


@under_both
async def test_errors_are_those_of_the_tree(connect: Connect, image: str) -> None:
    async with connect() as rt:
        for args, code in ((["/no/such"], 127), (["/etc/passwd"], 126)):
            with pytest.raises(asyncrt.StartFailed) as caught:
                async with rt.run(image, args):
                    raise AssertionError("it does not start")
            assert caught.value.code == code
        with pytest.raises(asyncrt.NoSuchObject):
            async with rt.run("rootfs:/no/such/place", ["true"]):
                raise AssertionError("it does not start")
        async with rt.run(image, ["sleep", "600"], name="twin"):
            with pytest.raises(asyncrt.Conflict, match="twin"):
                async with rt.run(image, ["true"], name="twin"):
                    raise AssertionError("it does not start")
        with pytest.raises(asyncrt.BadRequest, match="one string"):
            rt.run(image, "echo hello")
        with pytest.raises(asyncrt.BadRequest, match="memory"):
            rt.run(image, ["true"], memory="much")
        assert await rt.list(all=True) == []


@under_both
async def test_options_by_name(connect: Connect, image: str, tmp_path: object) -> None:
    bound = asyncrt.Volume(str(tmp_path), "/data", read_only=True)
    async with connect() as rt:
        script = "echo $A; pwd; hostname; touch /data/x || echo read-only; cat /proc/self/status | grep ^Uid"
        words = {"env": {"A": "1"}, "workdir": "/tmp", "hostname": "guest", "volumes": [bound], "user": "1:1"}
        async with rt.run(image, ["sh", "-c", script], memory="64m", pids_limit=9, **words) as container:
            lines = [line async for line in container.stdout.lines()]
            assert lines[:4] == ["1", "/tmp", "guest", "read-only"]
            assert lines[4].split() == ["Uid:"] + ["1"] * 4
            options = (await container.inspect()).options
            assert (options.memory, options.pids_limit) == (64 << 20, 9)


@under_both
async def test_a_container_that_no_block_holds(connect: Connect, image: str) -> None:
    async with connect() as rt:
        made = await rt.create(image, ["sleep", "600"], name="free")
        assert (await made.inspect()).state == "created"
        await made.start()
    async with connect() as rt:
        found = await rt.get("free")
        assert (found.id, found.name, (await found.inspect()).state) == (made.id, "free", "running")
        with pytest.raises(asyncrt.Conflict):
            await found.remove()
        await found.stop(grace=0.1)
        assert (await found.wait()).code == 137
        with pytest.raises(asyncrt.Conflict):
            await found.kill()
        await found.remove()
        with pytest.raises(asyncrt.NoSuchObject):
            await rt.get("free")


@under_both
async def test_every_call_takes_a_deadline(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sh", "-c", "trap '' TERM; sleep 600"]) as container:
        with pytest.raises(asyncrt.TimedOut, match="wait for"):
            await container.wait(timeout=0.1)
        with pytest.raises(asyncrt.TimedOut, match="stop"):
            await container.stop(timeout=0.1)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await container.wait()
        with pytest.raises(asyncrt.TimedOut, match="exec in"):
            await container.execute(["sleep", "600"], timeout=0.3)
        assert (await rt.version(timeout=5))["protocol"] >= 2
        assert (await rt.info(timeout=5))["containers"] == 1


@under_both
async def test_without_a_supervisor(engine: Engine) -> None:
    with pytest.raises(asyncrt.Unavailable, match="no such socket"):
        async with to(engine, start=False)():
            raise AssertionError("there is none")
    async with to(engine)() as rt:
        pid = (await rt.info())["supervisor_pid"]
        os.kill(pid, signal.SIGKILL)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")
        assert (await rt.info())["supervisor_pid"] != pid, "the next call starts the next one"


@under_both
async def test_steered_while_it_runs(connect: Connect, image: str) -> None:
    async with connect() as rt, rt.run(image, ["sleep", "600"], memory=64 << 20) as container:
        await container.pause()
        assert (await container.inspect()).state == "paused"
        with pytest.raises(asyncrt.Conflict, match="it is paused"):
            await container.execute(["true"])
        await container.unpause()
        assert (await container.execute(["true"])).exit.code == 0
        await container.update(memory=32 << 20, pids_limit=9)
        told = await container.stats()
        assert (told.id, told.memory_limit, told.pids_limit) == (container.id, 32 << 20, 9)
        assert told.pids >= 1
        with pytest.raises(asyncrt.BadRequest, match="no limit was given"):
            await container.update()
        assert await rt.images() == []
        with pytest.raises(asyncrt.RegistryFailed, match="no connection"):
            await rt.pull("127.0.0.1:1/nothing")
