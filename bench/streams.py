"""1 GiB of stdout to a reader: through a bare pipe, a foreground `run`, and `attach`, beside podman and docker.

    python bench/streams.py                     three rounds; figures are medians, and ratios to the bare pipe
    python bench/streams.py --megabytes 256 --rounds 1

The same program writes (dd from /dev/zero) and the same reader reads in every case; the clock runs from the first byte
to the last, so that what a start and an end cost is left out (the end of the pipe comes with that of the command).
`asyncrt, no log` hands our own stdout to the container (--log-driver none). Compare within one run only.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import site  # noqa: E402
from bench.peers.asyncrt import Asyncrt  # noqa: E402
from bench.peers.peer import Peer, Site  # noqa: E402
from bench.process import BenchError  # noqa: E402

READ = 1 << 20  # bytes of one read of the reader's
Case = Callable[[], tuple[list[str], dict[str, str]]]


def main() -> int:
    parser = site.options("streams", "1 GiB of stdout to a reader, in ratio to a bare pipe")
    parser.add_argument("--megabytes", type=int, default=1024, help="how much (1024)")
    given = parser.parse_args()
    return site.run(given, lambda ground: _bench(ground, given.peers, given.rounds, given.megabytes))


def _bench(ground: Site, wanted: list[str], rounds: int, megabytes: int) -> int:
    peers = site.present(ground, wanted, ["asyncrt", "podman", "docker"])
    writer = ["dd", "if=/dev/zero", "bs=65536", f"count={megabytes * 16}"]
    late = ["sh", "-c", f"read x; exec {' '.join(writer)}"]
    bare = [str(ground.rootfs / "bin" / "dd"), *writer[1:]]
    cases: dict[str, Case] = {"bare pipe": lambda: (bare, dict(ground.env))}
    for peer in peers:
        peer.up()
        cases |= _cases(peer, writer)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    try:
        for number in range(rounds):
            names = list(cases)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                argv, env = cases[name]()
                rates[name].append(_rate(argv, env, megabytes << 20))
            for peer in peers:
                if isinstance(peer, Asyncrt):
                    rates.setdefault("asyncrt attach", []).append(_attached(peer, late, megabytes << 20))
    finally:
        for peer in peers:
            peer.down()
    whole = statistics.median(rates["bare pipe"])
    print(f"{'':<18} {'MiB/s':>8} {'of a bare pipe':>16}")
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:<18} {rate / (1 << 20):>8.0f} {rate / whole:>15.0%}")
    return 0


def _cases(peer: Peer, writer: list[str]) -> dict[str, Case]:
    if not isinstance(peer, Asyncrt):
        return {peer.name: lambda: peer.foreground(writer)}
    return {
        "asyncrt": lambda: peer.foreground(writer),
        "asyncrt, no log": lambda: peer.foreground(writer, "--log-driver", "none"),
    }


def _rate(argv: list[str], env: dict[str, str], expected: int) -> float:
    """Bytes per second from the first byte to the last of what a command writes."""
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, env=env, stdin=null, stdout=subprocess.PIPE, stderr=null) as process:
        assert process.stdout is not None
        return _read(process.stdout.fileno(), argv, expected)


def _attached(peer: Asyncrt, late: list[str], expected: int) -> float:
    """As _rate, of a container that waits for a line and writes then, to who attached in between."""
    name, start, attach = peer.attaching(late)
    env = dict(peer.site.env)
    subprocess.run(start, env=env, stdout=subprocess.DEVNULL, check=True, timeout=60)
    with subprocess.Popen(attach, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        rate = _read(process.stdout.fileno(), attach, expected)
        process.stdin.close()
    subprocess.run(peer.removing(name), env=env, stdout=subprocess.DEVNULL, check=True, timeout=60)
    return rate


def _read(fd: int, argv: list[str], expected: int) -> float:
    """Raises BenchError where less or more came: a rate of lost bytes is none."""
    buffer = bytearray(READ)
    size = os.readv(fd, [buffer])
    begin, first = time.perf_counter(), size
    last = begin
    while count := os.readv(fd, [buffer]):
        size += count
        last = time.perf_counter()
    seconds = last - begin
    if size != expected:
        raise BenchError(f"{' '.join(argv[:6])} ...: {size} bytes came, {expected} were written")
    return (size - first) / seconds


if __name__ == "__main__":
    sys.exit(main())
