"""Bad neighbours: how long an exec takes beside 20 containers that do their worst, and whether their limits hold.

    python bench/neighbours.py                   5 fork bombs, memory hogs, CPU hogs and disk hogs each; 1000 execs
    python bench/neighbours.py --each 2 --execs 50 --seconds 5

Execs of `true` through the SDK, in a container with nothing to do: first beside nobody, then beside the hogs. What the
hogs got is read from their cgroups, from outside, and held against what was asked for. Their CPU weight is what goes
with their quota (docs/decisions/0027); --shares 1024 shows what everybody's would do.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import site  # noqa: E402
from bench.peers.asyncrt import Asyncrt  # noqa: E402
from bench.peers.peer import Site  # noqa: E402

MIB = 1 << 20
MEMORY, PIDS, CPUS, RATE = 32 * MIB, 32, 0.05, 4 * MIB
PATIENCE = 120.0
WORSE = 3.0  # times the idle p99: what is promised


class Hog(NamedTuple):
    """`disk` hogs write past the page cache: on cgroup v1 what the kernel writes back later is nobody's."""

    name: str
    script: str


HOGS = (
    Hog("fork bomb", "while :; do (sleep 5 & sleep 5 & sleep 5 &) 2>/dev/null; done"),
    Hog("memory hog", "while :; do tail /dev/zero 2>/dev/null; done"),
    Hog("cpu hog", "while :; do :; done & while :; do :; done"),
    Hog("disk hog", "while :; do dd if=/dev/zero of=/filled bs=1M count=64 oflag=direct 2>/dev/null; done"),
)


def main() -> int:
    parser = site.options("neighbours", "execs beside hogs, and whether limits hold")
    parser.add_argument("--each", type=int, default=5, help="containers of each kind of hog (5)")
    parser.add_argument("--execs", type=int, default=1000, help="execs of `true` (1000)")
    parser.add_argument("--shares", type=int, default=0, help="CPU weight of the hogs (what goes with their quota)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which the hogs are measured (10)")
    given = parser.parse_args()
    return site.run(given, lambda ground: _bench(ground, given))


def _bench(ground: Site, given: Any) -> int:
    peer = Asyncrt(ground, "single")
    peer.up()
    try:
        return _measured(peer, given)
    finally:
        peer.down()


def _measured(peer: Asyncrt, given: Any) -> int:
    """What it does is a user's program, and imports nothing else of ours."""
    import anyio

    import asyncrt

    places = {place: str(peer.folder / place) for place in ("root", "state")}
    limits = {"memory": MEMORY, "cpus": CPUS, "pids_limit": PIDS}

    async def execs(container: asyncrt.Container) -> list[float]:
        times = []
        for _ in range(given.execs):
            begin = time.perf_counter()
            done = await container.execute(["true"], timeout=PATIENCE)
            times.append(time.perf_counter() - begin)
            assert done.code == 0
        return times

    async def program() -> int:
        socket = str(peer.folder / "socket")
        async with asyncrt.connect(socket, **places, start=False) as rt:
            info = await rt.info()
            async with rt.run("host:", ["sleep", "100000"]) as quiet:
                await execs(quiet)  # what is imported and compiled once
                idle = await execs(quiet)
                rate = (asyncrt.DeviceRate(_disk(peer.folder), RATE),)
                swap = -1 if _no_swap() else MEMORY
                bound = asyncrt.Limits(device_write_bps=rate, memory_swap=swap, cpu_shares=given.shares)
                specs = [
                    asyncrt.Options("host:", ("sh", "-c", hog.script), limits=bound, **limits)
                    for hog in HOGS
                    for _ in range(given.each)
                ]
                async with rt.run_many(specs) as hogs:
                    # As they start, which is another order: one script after the other again.
                    running = [(_kind(one.options.args[-1]), one.id) async for one in hogs]
                    ids = [id for _, id in sorted(running)]
                    await anyio.sleep(2)
                    begun = time.perf_counter()
                    before = [_used(info, id) for id in ids]
                    beside = await execs(quiet)
                    await anyio.sleep(max(0.0, given.seconds - (time.perf_counter() - begun)))
                    after = [_used(info, id) for id in ids]
                    passed = time.perf_counter() - begun
        return _report(idle, beside, before, after, passed, given.each)

    return anyio.run(program)


def _kind(script: str) -> int:
    return next(number for number, hog in enumerate(HOGS) if hog.script == script)


class Used(NamedTuple):
    cpu_s: float
    memory: int
    pids: int
    written: int


def _used(info: dict[str, Any], id: str) -> Used:
    """From its cgroups; v1's files, or v2's."""
    at = f"{info['cgroup_parent']}/{id}"
    if info["cgroup_version"] == 2:
        place = f"/sys/fs/cgroup{at}"
        cpu = int(_line(f"{place}/cpu.stat", "usage_usec")) / 1e6
        memory, pids = (int(_text(f"{place}/{name}")) for name in ("memory.peak", "pids.current"))
        words = _text(f"{place}/io.stat").split()
        written = sum(int(word[7:]) for word in words if word.startswith("wbytes="))
        return Used(cpu, memory, pids, written)
    cpu = int(_text(f"/sys/fs/cgroup/cpuacct{at}/cpuacct.usage")) / 1e9
    memory = int(_text(f"/sys/fs/cgroup/memory{at}/memory.max_usage_in_bytes"))
    pids = int(_text(f"/sys/fs/cgroup/pids{at}/pids.current"))
    lines = _text(f"/sys/fs/cgroup/blkio{at}/blkio.throttle.io_service_bytes").splitlines()
    return Used(cpu, memory, pids, sum(int(line.split()[2]) for line in lines if " Write " in line))


def _text(path: str) -> str:
    return Path(path).read_text()


def _line(path: str, key: str) -> str:
    return next(line.split()[1] for line in _text(path).splitlines() if line.startswith(f"{key} "))


def _disk(folder: Path) -> str:
    """The block device that a folder is on, as a whole."""
    number = folder.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    whole = node if not (node / "partition").exists() else node.parent
    return f"/dev/{whole.name}"


def _no_swap() -> bool:
    return not Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()


def _report(
    idle: list[float], beside: list[float], before: list[Used], after: list[Used], passed: float, each: int
) -> int:
    p99 = [sorted(times)[int(len(times) * 0.99)] * 1000 for times in (idle, beside)]
    p50 = [statistics.median(times) * 1000 for times in (idle, beside)]
    print(f"{len(after)} hogs for {passed:.1f} s; exec of true, ms:")
    print(f"  beside nobody    p50 {p50[0]:7.2f}   p99 {p99[0]:7.2f}")
    print(f"  beside the hogs  p50 {p50[1]:7.2f}   p99 {p99[1]:7.2f}   {p99[1] / p99[0]:.2f} times")
    print(f"{'most of its kind':<18} {'CPU cores':>10} {'memory MiB':>11} {'processes':>10} {'written MiB/s':>14}")
    print(f"{'asked for':<18} {CPUS:>10.3f} {MEMORY / MIB:>11.1f} {PIDS:>10} {RATE / MIB:>14.2f}")
    held = p99[1] <= WORSE * p99[0]
    for number, hog in enumerate(HOGS):
        pairs = list(zip(before, after, strict=True))[number * each : (number + 1) * each]
        cores = max((late.cpu_s - early.cpu_s) / passed for early, late in pairs)
        memory = max(late.memory for _, late in pairs)
        pids = max(late.pids for _, late in pairs)
        written = max((late.written - early.written) / passed for early, late in pairs)
        print(f"{hog.name:<18} {cores:>10.3f} {memory / MIB:>11.1f} {pids:>10} {written / MIB:>14.2f}")
        held &= cores <= CPUS * 1.1 and memory <= MEMORY and pids <= PIDS and written <= RATE * 1.1
    print("all hold" if held else "NOT all hold")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
