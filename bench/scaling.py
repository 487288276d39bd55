"""Does a start cost more when many containers live? CPU of one start beside 10, 300 and 960 living ones.

    python bench/scaling.py [--asyncrt PATH] [--rounds N] [--check]

Each round fills up to a level, starts a batch of 40, and removes the batch. The CPU is the whole machine's (/proc/stat,
in ticks of 10 ms) less an idle baseline measured in the same run, divided by 40: supervisor, zygote, shims and the
kernel's own threads all count. Rounds interleave the levels, medians are compared: the 1000th start may cost at most
1.3 times the CPU of the 10th. `--check` makes that the exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEVELS = (10, 300, 960)
BATCH = 40
ALLOWED = 1.3
BASELINE_SECONDS = 3.0
SETTLE_SECONDS = 0.5
PATIENCE = 120.0
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class Asyncrt:
    """The command line with places of its own."""

    def __init__(self, command: list[str], base: Path) -> None:
        places = {"ROOT": base / "root", "STATE": base / "state", "SOCKET": base / "s"}
        self.command = command
        self.env = {**os.environ, **{f"ASYNCRT_{name}": str(path) for name, path in places.items()}}

    def __call__(self, *words: str) -> list[str]:
        done = subprocess.run(
            [*self.command, *words], env=self.env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if done.returncode:
            raise SystemExit(f"asyncrt {words[0]} failed: {done.stderr.strip()}")
        return done.stdout.split()

    def start(self, rootfs: Path, count: int) -> list[str]:
        return self("run", "-d", "--count", str(count), f"rootfs:{rootfs}", "sleep", "600")


def busy_ms() -> float:
    """CPU that this machine has spent since boot: user, nice, system, irq, softirq (proc_stat(5))."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(words[place]) for place in (0, 1, 2, 5, 6)) * TICK_MS


def baseline() -> float:
    """What the machine spends without us: CPU ms per second."""
    before = busy_ms()
    time.sleep(BASELINE_SECONDS)
    return (busy_ms() - before) / BASELINE_SECONDS


def one_batch(asyncrt: Asyncrt, rootfs: Path, idle: float) -> tuple[float, list[str]]:
    """CPU ms per start of a batch, and its ids."""
    begin, spent = time.monotonic(), busy_ms()
    ids = asyncrt.start(rootfs, BATCH)
    time.sleep(SETTLE_SECONDS)  # what the kernel does behind the answer counts too
    return (busy_ms() - spent - idle * (time.monotonic() - begin)) / BATCH, ids


def measure(asyncrt: Asyncrt, rootfs: Path, rounds: int) -> dict[int, list[float]]:
    idle = baseline()
    costs: dict[int, list[float]] = {level: [] for level in LEVELS}
    for _ in range(rounds):
        live = 0
        for level in LEVELS:
            asyncrt.start(rootfs, level - live)
            live = level
            cost, ids = one_batch(asyncrt, rootfs, idle)
            costs[level].append(cost)
            asyncrt("rm", "-f", *ids)
            print(f"beside {level:4}: {cost:.2f} ms CPU per start", file=sys.stderr)
        asyncrt("rm", "-f", "--all")
    return costs


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--asyncrt", default="", help="the command (default: beside this interpreter)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="exit 1 if the limit is broken")
    options = parser.parse_args()
    command = [options.asyncrt] if options.asyncrt else [sys.executable, "-m", "asyncrt"]
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("bench/scaling.py needs a static busybox (Debian: busybox-static)")
    base = Path(tempfile.mkdtemp(prefix="asyncrt-scaling-"))
    rootfs = base / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(busybox, rootfs / "bin/busybox")
    (rootfs / "bin/sleep").symlink_to("busybox")
    asyncrt = Asyncrt(command, base)
    try:
        costs = measure(asyncrt, rootfs, options.rounds)
    finally:
        asyncrt("rm", "-f", "--all")
        asyncrt("daemon", "stop")
        shutil.rmtree(base)
    medians = {level: statistics.median(values) for level, values in costs.items()}
    ratio = medians[LEVELS[-1]] / medians[LEVELS[0]]
    print(json.dumps({"cpu_ms_per_start": medians, "ratio": ratio, "allowed": ALLOWED, "rounds": costs}, indent=2))
    return 1 if options.check and ratio > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
