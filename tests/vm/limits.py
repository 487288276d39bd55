"""Limits and their events on cgroup v2, by one program:   python -m tests.vm.limits        (as root)

An emulated machine needs seconds for every interpreter: here one holds the whole conversation. Ends at the first thing
that is not as it should be, and says which.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import trio

import asyncrt
from shimd.linux import cgroups, freezer
from tests import rootfs
from tests.engine import Engine, closed
from tests.oom.__main__ import prove

BEGUN = time.monotonic()
MIB = 1 << 20
SPIN = "while :; do :; done"
FILLS = "dd if=/dev/zero of=/filled bs=1M count=13 2>/dev/null; rm /filled"  # above high, below max


def same(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        print(f"limits: FAILED: {what}: wanted {wanted!r}, found {found!r}", flush=True)
        raise SystemExit(1)
    print(f"limits: {what} ({time.monotonic() - BEGUN:.0f} s)", flush=True)


async def until(rt: asyncrt.Runtime, after: int, id: str, *actions: str) -> dict[str, asyncrt.Event]:
    """The first event of each kind."""
    found: dict[str, asyncrt.Event] = {}
    with trio.fail_after(120):
        async for event in rt.events(after):
            if event.id == id:
                found.setdefault(event.action, event)
            if found.keys() >= set(actions):
                return found
    raise AssertionError("unreachable")


async def one_by_one(engine: Engine, image: str) -> None:
    tree = cgroups.hierarchies()[0]
    places = {"root": str(engine.root), "state": str(engine.state)}
    async with asyncrt.connect(str(engine.socket), **places, timeout=240) as rt:
        info = await rt.info()
        same("the engine's cgroups are of v2", 2, info["cgroup_version"])
        after = int(info["last_event"])
        script = f"{FILLS}; (for i in 1 2 3 4 5; do sleep 1 & done) 2>/dev/null; {SPIN}"
        words = ["sh", "-c", script]
        limits = asyncrt.Limits(cpu_shares=512, unified=(f"memory.high={12 * MIB}",))
        async with rt.run(image, words, memory=16 * MIB, pids_limit=3, cpus=0.1, limits=limits) as box:
            place = f"{tree.mount}{info['cgroup_parent']}/{box.id}"
            for file, value in (("memory.max", "16777216"), ("memory.high", "12582912"), ("pids.max", "3")):
                same(f"{file} is what was asked for", value, cgroups.read(place, file).strip())
            same("cpu.max is what was asked for", "10000 100000", cgroups.read(place, "cpu.max").strip())
            same("its first process was born in its cgroup", True, box.pid in cgroups.processes(place))
            seen = await until(rt, after, box.id, "memory_high", "pids_max", "cpu_throttled")
            same("hits of each limit are events", True, len(seen) >= 3)
            readings = box.pressure("cpu", some_us=50_000, window_us=1_000_000)
            with trio.fail_after(60):
                same("the kernel tells of pressure", "cpu", (await anext(readings)).resource)
            await readings.aclose()
            await box.pause(timeout=60)
            same("paused is frozen", True, freezer.is_frozen(2, place))
            same("and its record says so", "paused", (await box.inspect()).state)
            await until(rt, after, box.id, "frozen", "pause")
            await box.unpause(timeout=60)
            same("unpaused is not", False, freezer.is_frozen(2, place))
            await until(rt, after, box.id, "thawed", "unpause")
            await box.update(memory=64 * MIB, pids_limit=0, cpus=0.5, limits=asyncrt.Limits(cpu_shares=1024))
            for file, value in (("memory.max", "67108864"), ("pids.max", "max"), ("cpu.max", "50000 100000")):
                same(f"{file} was updated", value, cgroups.read(place, file).strip())
            told = await box.stats(timeout=60)
            same("stats tell memory, CPU and processes", True, told.memory > 0 and told.cpu_ns > 0 and told.pids > 0)
            await box.kill(all=True, timeout=60)
            ended = await box.wait(timeout=60)
            same("kill --all by cgroup.kill", (137, 9), (ended.code, ended.signal))
            same("nothing was short of memory", (0, "", False), (ended.oom_kills, ended.oom_cgroup, ended.oom_killed))
            counts = ended.fork_failures, ended.throttled_ns, ended.memory_peak
            same("the record counts what limits did", True, all(count > 0 for count in counts))
            same("its cgroup is gone", False, os.path.exists(place))
        own = f"/asyncrt-own-{os.getpid()}"
        async with rt.run(image, ["sleep", "600"], cgroup_parent=own, memory=16 * MIB) as box:
            inside = cgroups.processes(f"{tree.mount}{own}/{box.id}")
            same("a parent of its own", True, box.pid in inside)
            done = await box.execute(["sh", "-c", "mknod /tmp/x b 8 0; head -c 1 /tmp/x"], timeout=60)
            same("has device rules", True, b"permitted" in done.stderr)
        os.rmdir(tree.mount + own)


def main() -> int:
    """0 if all is as it should be."""
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-rootfs-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        image = f"rootfs:{rootfs.build(Path(place))}"
        engine = Engine()
        try:
            trio.run(one_by_one, engine, image)
            same("every OOM of 16 among 32 is told, and no other", [], prove(engine, image, 16, 32))
        finally:
            closed(engine)
    same("no cgroup is left", [], [name for name in os.listdir("/sys/fs/cgroup") if name.startswith("asyncrt")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
