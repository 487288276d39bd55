"""Workers, the killer, the report:   python -m tests.soak [--runs N] [--pause SECONDS] [--workers N] [--seed N]

It says on stderr where it is, each minute; --minutes ends it early, with the report of what was done by then.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests import rootfs
from tests.engine import Engine
from tests.soak.deeds import MOST, WAYS, Worker, job
from tests.soak.reckoning import Reckoning

TOLD_SECONDS = 60.0


class Soak:
    """One engine, its killer, its clients."""

    def __init__(self, engine: Engine, image: str, pattern: bytes, seed: int) -> None:
        self.engine = engine
        self.image = image
        self.pattern = pattern
        self.dice = random.Random(seed)
        self.reckoning = Reckoning()
        self._until = float("inf")
        self._waking = threading.Lock()
        self._over = threading.Event()
        self._numbers = iter(range(1 << 62))

    def run(self, runs: int, workers: int, pause: float, minutes: float = 0) -> Reckoning:
        """`pause`: seconds between one kill and the next, on average; 0: none. `minutes`: at most; 0: no bound."""
        self.wake()
        self._until = time.monotonic() + minutes * 60 if minutes else float("inf")
        threads = [
            threading.Thread(target=self._work, args=(place, runs, random.Random(self.dice.random())), daemon=True)
            for place in range(workers)
        ]
        killer = threading.Thread(target=self._kill, args=(pause,), daemon=True)
        began = time.monotonic()
        for thread in threads:
            thread.start()
        if pause:
            killer.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(TOLD_SECONDS)
                if thread.is_alive():
                    self._tell(time.monotonic() - began)
        self._over.set()
        if pause:
            killer.join()
        self.reckoning.count("seconds", round(time.monotonic() - began))
        return self.reckoning

    def _tell(self, seconds: float) -> None:
        counts = self.reckoning.counts
        done = sum(counts[way] for way in WAYS)
        told = f"{seconds / 60:.0f} min: {done} runs, {counts['kills']} kills, {self.reckoning.faults} faults"
        print(told, file=sys.stderr, flush=True)

    def wake(self) -> None:
        """Have a supervisor; the commands start one where there is none."""
        with self._waking:
            self.engine.cli("version", timeout=60)

    def _work(self, place: int, runs: int, dice: random.Random) -> None:
        box = f"box-{place}"
        self.engine.cli("run", "-d", "--name", box, self.image, "sleep", "1000000", check=True)
        worker = Worker(str(self.engine.socket), self.image, self.pattern, self.reckoning, self.wake, box)
        while (number := next(self._numbers)) < runs and time.monotonic() < self._until:
            worker.do(job(number, dice), dice)

    def _kill(self, pause: float) -> None:
        while not self._over.is_set():
            pid = self.engine.supervisor_pid()
            if not self._over.wait(pause * self.dice.uniform(0.2, 1.8)):
                os.kill(pid, 9)
                self.reckoning.count("kills")


def soak(runs: int, workers: int, pause: float, seed: int, minutes: float = 0) -> Reckoning:
    """In an engine of its own, which is gone afterwards."""
    engine = Engine()
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-soak-", dir="/tmp") as place:
        try:
            root = rootfs.build(Path(place))
            pattern = random.Random(1).randbytes(MOST)
            (root / "pattern").write_bytes(pattern)
            return Soak(engine, f"rootfs:{root}", pattern, seed).run(runs, workers, pause, minutes)
        finally:
            engine.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=30.0, help="seconds between kills of the supervisor; 0: none")
    parser.add_argument("--minutes", type=float, default=0, help="end after that many, however far it is; 0: when done")
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    reckoning = soak(words.runs, words.workers, words.pause, words.seed, words.minutes)
    print(reckoning.table())
    for story in reckoning.stories:
        print(story, file=sys.stderr)
    return 1 if reckoning.faults else 0


if __name__ == "__main__":
    sys.exit(main())
