"""Execs: how long `true` takes, and a byte to and fro through many sessions of `cat`, beside crun, podman and docker.

    python bench/exec.py                         100 execs of `true`, 300 sessions
    python bench/exec.py --execs 20 --sessions 30 --peers asyncrt,crun

The others are driven by their command lines, asyncrt by its SDK, as a program of yours would be, and by its command
line as well (sessions of that: --cli, since 300 interpreters need 5 GiB). All sessions are open before the first byte
goes; then each in turn gets a byte and has to give it back, --turns times. Compare within one run only.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import site  # noqa: E402
from bench.peers.asyncrt import Asyncrt  # noqa: E402
from bench.peers.peer import Peer, Site  # noqa: E402
from bench.process import BenchError  # noqa: E402

PATIENCE = 300.0  # s for whatever one peer does
Times = dict[str, list[float]]


def main() -> int:
    parser = site.options("exec", "execs beside crun, podman and docker")
    parser.add_argument("--execs", type=int, default=100, help="execs of `true` each (100)")
    parser.add_argument("--sessions", type=int, default=300, help="sessions of `cat` at once (300)")
    parser.add_argument("--turns", type=int, default=10, help="bytes to and fro for each session (10)")
    parser.add_argument("--cli", action="store_true", help="sessions of asyncrt by its command line, too")
    given = parser.parse_args()
    return site.run(given, lambda ground: _bench(ground, given))


def _bench(ground: Site, given: Any) -> int:
    trues: Times = {}
    bytes_: Times = {}
    alive: dict[str, int] = {}
    for peer in site.present(ground, given.peers, ["asyncrt", "crun", "podman", "docker"]):
        peer.up()
        try:
            peer.start(1, time.monotonic() + PATIENCE)
            name = peer.live[0]
            trues[peer.name] = [_true(*peer.entering(name, ["true"])) for _ in range(given.execs)]
            if not isinstance(peer, Asyncrt) or given.cli:
                with _sessions(peer, name, given.sessions) as ends:
                    bytes_[peer.name] = _to_and_fro(ends, given.turns)
                    alive[peer.name] = len(ends)
            if isinstance(peer, Asyncrt):
                _by_sdk(peer, name, given, trues, bytes_, alive)
        finally:
            with contextlib.suppress(BenchError):
                peer.remove(time.monotonic() + PATIENCE)
            peer.down()
    print(f"{'':<14} {'true p50':>10} {'p99':>10}   {'sessions':>8} {'1 byte p50':>11} {'p99':>9}")
    for name, times in trues.items():
        row = f"{name:<14} {_ms(times, 50)} {_ms(times, 99)}"
        there = bytes_.get(name)
        print(row + (f"   {alive[name]:>8} {_us(there, 50)} {_us(there, 99)}" if there else ""))
    return 0


def _true(argv: list[str], env: dict[str, str]) -> float:
    begin = time.perf_counter()
    null = subprocess.DEVNULL
    subprocess.run(argv, env=env, stdin=null, stdout=null, check=True, timeout=PATIENCE)
    return time.perf_counter() - begin


@contextlib.contextmanager
def _sessions(peer: Peer, name: str, count: int) -> Iterator[list[tuple[int, int]]]:
    """(write, read) of each; all answer before they are handed out."""
    argv, env = peer.entering(name, ["cat"])
    pipe = subprocess.PIPE
    running: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            running.append(subprocess.Popen(argv, env=env, stdin=pipe, stdout=pipe, bufsize=0))
        ends = [(one.stdin.fileno(), one.stdout.fileno()) for one in running if one.stdin and one.stdout]
        _to_and_fro(ends, 1)
        yield ends
    finally:
        for one in running:
            if one.stdin:
                one.stdin.close()
        for one in running:
            one.wait(PATIENCE)
            if one.stdout:
                one.stdout.close()


def _to_and_fro(ends: list[tuple[int, int]], turns: int) -> list[float]:
    times = []
    for _ in range(turns):
        for there, back in ends:
            begin = time.perf_counter()
            os.write(there, b"x")
            if os.read(back, 1) != b"x":
                raise BenchError("a session ended before its time")
            times.append(time.perf_counter() - begin)
    return times


def _by_sdk(peer: Asyncrt, name: str, given: Any, trues: Times, bytes_: Times, alive: dict[str, int]) -> None:
    """The same through the SDK, in one process; what it does is a user's program and imports nothing else of ours."""
    import anyio

    import asyncrt

    async def program() -> None:
        socket = str(peer.folder / "socket")
        async with asyncrt.connect(socket, start=False) as rt, contextlib.AsyncExitStack() as stack:
            container = await rt.get(name)
            times = trues["asyncrt SDK"] = []
            for _ in range(given.execs):
                begin = time.perf_counter()
                async with container.exec(["true"]) as process:
                    if (await process.wait()).code != 0:
                        raise BenchError("exec of true failed")
                times.append(time.perf_counter() - begin)
            sessions = [await stack.enter_async_context(container.exec(["cat"])) for _ in range(given.sessions)]
            times = bytes_["asyncrt SDK"] = []
            for _ in range(given.turns):
                for session in sessions:
                    begin = time.perf_counter()
                    await session.stdin.send(b"x")
                    await session.stdout.receive(1)
                    times.append(time.perf_counter() - begin)
            alive["asyncrt SDK"] = len(sessions)

    anyio.run(program, backend="trio")


def _ms(times: list[float], percent: int) -> str:
    return f"{_percentile(times, percent) * 1e3:>7.1f} ms"


def _us(times: list[float], percent: int) -> str:
    return f"{_percentile(times, percent) * 1e6:>6.0f} us"


def _percentile(times: list[float], percent: int) -> float:
    return times[0] if len(times) < 2 else statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    sys.exit(main())
