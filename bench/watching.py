"""What it costs to watch many containers: `stats` of all at once beside docker's, and a supervisor's idle minutes.

    python bench/watching.py                    300 containers, 3 looks each, 20 idle seconds
    python bench/watching.py --count 60 --idle 5 --peers asyncrt

One look is one command without a stream (`stats --no-stream`). Its CPU is the command's and that of all daemons of the
engine. asyncrt's containers have limits on memory, CPU and processes, so that each of them is watched. Compare within
one run only.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import image, site  # noqa: E402
from bench.peers.asyncrt import Asyncrt  # noqa: E402
from bench.peers.peer import Peer, Site  # noqa: E402
from bench.process import BenchError, run  # noqa: E402

PATIENCE = 300.0  # s for whatever one peer does
LIMITS = ("-m", "64m", "--cpus", "1", "--pids-limit", "100")
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = site.options("watching", "stats of many containers, and what watching them costs")
    parser.add_argument("--count", type=int, default=300, help="containers (300)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds in which nothing happens (20)")
    given = parser.parse_args()
    return site.run(given, lambda ground: _bench(ground, given))


def _bench(ground: Site, given: Any) -> int:
    rows = []
    for peer in site.present(ground, given.peers, ["asyncrt", "docker"]):
        peer.up()
        try:
            argv, env = _begun(peer, given.count)
            looks = [_look(peer, argv, env, given.count) for _ in range(given.rounds)]
            wall = statistics.median(wall for wall, _ in looks)
            cpu = statistics.median(cpu for _, cpu in looks)
            rows.append(f"{peer.name:<10} {wall:>9.3f} {cpu:>9.0f}   {_idle(peer, given.idle)}")
        finally:
            with contextlib.suppress(BenchError):
                peer.remove(time.monotonic() + PATIENCE)
            peer.down()
    print(f"{given.count} containers")
    print(f"{'':<10} {'stats s':>9} {'CPU ms':>9}   idle")
    print("\n".join(rows))
    return 0


def _begun(peer: Peer, count: int) -> tuple[list[str], dict[str, str]]:
    """They run; the command of one look."""
    deadline = time.monotonic() + PATIENCE
    if isinstance(peer, Asyncrt):
        ids = peer.folder / "ids"
        words = ["run", "-d", "--count", str(count), *LIMITS, f"rootfs:{peer.site.rootfs}", *image.SLEEP]
        run(peer._argv(*words), env=peer.site.env, log=peer.log, deadline=deadline, stdout=ids)
        peer.live = ids.read_text().split()
        return peer._argv("stats", "--no-stream"), dict(peer.site.env)
    peer.start(count, deadline)
    argv, env = peer.entering(peer.live[0], [])
    return [argv[0], "stats", "--no-stream"], env


def _look(peer: Peer, argv: list[str], env: dict[str, str], count: int) -> tuple[float, float]:
    """(wall seconds, CPU milliseconds) of one."""
    before, begin = _cpu_ms(peer) + _children_ms(), time.perf_counter()
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=PATIENCE)
    wall = time.perf_counter() - begin
    lines = len(done.stdout.splitlines()) - 1
    if lines != count:
        raise BenchError(f"stats by {peer.name}: {lines} of {count} containers")
    return wall, _cpu_ms(peer) + _children_ms() - before


def _idle(peer: Peer, seconds: float) -> str:
    time.sleep(2)  # what the last look left to do
    before, threads = _cpu_ms(peer), _threads(peer)
    time.sleep(seconds)
    share = (_cpu_ms(peer) - before) / (seconds * 1000) * 100
    return f"{share:.2f} % of a core, {len(_daemons(peer))} daemons with {threads} threads in all"


def _daemons(peer: Peer) -> list[int]:
    """The engine's processes that are no container's: what names the peer's folder, but for shims."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            comm = Path(f"/proc/{name}/comm").read_text().strip()
            named = any(str(peer.folder).encode() in word for word in words)
            if named and int(name) != os.getpid() and not comm.startswith(("shim:", "containerd-shim")):
                found.append(int(name))
    return found


def _cpu_ms(peer: Peer) -> float:
    total = 0.0
    for pid in _daemons(peer):
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~pid << 3 | 2) * 1000  # clock_getcpuclockid(3)
    return total


def _children_ms() -> float:
    spent = os.times()
    return (spent.children_user + spent.children_system) * 1000


def _threads(peer: Peer) -> int:
    total = 0
    for pid in _daemons(peer):
        with contextlib.suppress(OSError):
            total += len(os.listdir(f"/proc/{pid}/task"))
    return total


if __name__ == "__main__":
    sys.exit(main())
