"""CPU and wall clocks of a phase, with what is not the peer's taken off.

CPU is the whole machine's, from /proc/stat: user + nice + system + irq + softirq. Daemons, shims, kernel
threads, client commands and the bench's own client threads all count, alike for every peer, until the machine
is quiet again: removal behind the answer, RCU callbacks and daemons' afterthoughts belong to the phase that
caused them.
Taken off, and reported beside it:
- `idle`: what the machine burnt without us at the start of the run, for the length of the window;
- `foreign`: the user-space CPU of processes that do not descend from the bench's keeper (other people's work;
  /proc/PID/stat, children waited for included). On a quiet machine it is about zero;
- the bench's own looking at /proc.

/proc/stat has a grain of 10 ms (proc(5)); where cgroup v1's cpuacct is mounted its root counter (tasks only,
in nanoseconds, no interrupts) is reported, with the same deductions, as a cross-check.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.census import foreign_cpu
from bench.process import BenchError

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_CPUACCT = Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")
_STEP = 0.25  # s, a window of the baseline and of settling
_SETTLE_LEAST, _SETTLE_MOST = 0.5, 10.0  # s


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one moment: `at` in seconds, the rest in milliseconds since some fixed point."""

    at: float
    busy: float
    stolen: float
    tasks: float | None
    foreign: float
    looking: float

    @property
    def net(self) -> float:
        """Busy time that is neither other people's nor our looking."""
        return self.busy - self.foreign - self.looking

    @property
    def net_tasks(self) -> float | None:
        return None if self.tasks is None else self.tasks - self.foreign - self.looking


@dataclass(frozen=True, slots=True)
class Baseline:
    """The machine without us. In ms per second: `busy` in all, the others without foreign processes."""

    seconds: float
    busy: float
    net: float
    net_tasks: float
    deviation: float
    highest: float

    @property
    def quiet_below(self) -> float:
        """A window under this (net ms/s) counts as idle: three deviations of slack, at least two ticks."""
        return self.net + max(3 * self.deviation, 2 * _TICK_MS / _STEP)

    def as_json(self) -> dict[str, float]:
        """With the share of the machine that is busy: 0.0 to 1.0 of all its CPUs."""
        figures = {f"{key}_ms_per_s": value for key, value in asdict(self).items() if key != "seconds"}
        share = self.busy / (1000 * len(os.sched_getaffinity(0)))
        whole = {
            "seconds": self.seconds,
            **figures,
            "share_of_machine": share,
            "quiet_below": self.quiet_below,
        }
        return {key: round(value, 4) for key, value in whole.items()}


@dataclass(frozen=True, slots=True)
class Phase:
    """One measured phase of one peer. Rates in containers per second, CPU in milliseconds per container.

    `cpu_ms_uncorrected` has only the idle machine taken off, not foreign processes. `foreign_share` is the
    part of the machine, 0.0 to 1.0, that these took in the window: past some percent the wall clock lies too.
    """

    wall_s: float
    rate: float
    cpu_ms: float
    cpu_ms_tasks_only: float | None
    cpu_ms_uncorrected: float
    foreign_share: float
    settled_s: float
    stolen_ms: float

    def as_json(self) -> dict[str, float | None]:
        return {key: None if value is None else round(value, 3) for key, value in asdict(self).items()}


class Meter:
    """The machine's meter, for one keeper's tree of processes.

    idle = meter.baseline(5); meter.phase(300, idle, work, done, patience=15)
    """

    def __init__(self, keeper: int) -> None:
        self._keeper = keeper
        self._looking = self._foreign = 0.0
        self._foreign_before: float | None = None

    def read(self) -> Reading:
        """The clocks first, then the walk over /proc, so that successive readings are equally late."""
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in first[:8])
        busy, at, tasks, looking = (
            user + nice + system + irq + softirq,
            time.monotonic(),
            _tasks(),
            self._looking,
        )
        with self._look():
            foreign = foreign_cpu(self._keeper) * _TICK_MS
        # A sum over processes falls when one ends and nobody waits for it: that is no negative work.
        self._foreign += max(0.0, foreign - (foreign if self._foreign_before is None else self._foreign_before))
        self._foreign_before = foreign
        return Reading(at, busy * _TICK_MS, steal * _TICK_MS, tasks, self._foreign, looking)

    def baseline(self, seconds: float) -> Baseline:
        """Watch the idle machine for `seconds`."""
        first = last = self.read()
        windows: list[float] = []
        while last.at - first.at < seconds:
            time.sleep(_STEP)
            now = self.read()
            windows.append((now.net - last.net) / (now.at - last.at))
            last = now
        span = last.at - first.at
        tasks = (last.net_tasks or 0.0) - (first.net_tasks or 0.0)
        # Deductions are finer than the clock ticks they are taken from: about zero may come out below zero.
        busy, net, tasks = last.busy - first.busy, max(0.0, last.net - first.net), max(0.0, tasks)
        return Baseline(span, busy / span, net / span, tasks / span, statistics.pstdev(windows), max(windows))

    def settle(self, idle: Baseline) -> Reading:
        """Wait until the machine is as quiet as it was idle, foreign processes aside, or for 10 s."""
        first = last = self.read()
        while True:
            time.sleep(_STEP)
            now = self.read()
            waited = now.at - first.at
            quiet = (now.net - last.net) / (now.at - last.at) <= idle.quiet_below
            if (quiet and waited >= _SETTLE_LEAST) or waited >= _SETTLE_MOST:
                return now
            last = now

    def phase(
        self, count: int, idle: Baseline, work: Callable[[], None], done: Callable[[], bool], patience: float
    ) -> Phase:
        """Time `work` for `count` containers, verified by `done`, and its CPU until the machine has settled.

        The wall clock stops when `work` returns, if `done()` holds at the first look; else at the look that
        finds it so. Raises BenchError when `done` does not hold within `patience` seconds.
        """
        begin = self.read()
        started = time.monotonic()
        work()
        stopped = time.monotonic()
        with self._look():
            wall = self._verified(count, done, patience, started, stopped) - started
        end = self.settle(idle)
        span = end.at - begin.at
        tasks = None
        if begin.net_tasks is not None and end.net_tasks is not None:
            tasks = (end.net_tasks - begin.net_tasks - idle.net_tasks * span) / count
        foreign = max(0.0, end.foreign - begin.foreign)
        uncorrected = end.busy - begin.busy - (end.looking - begin.looking) - idle.busy * span
        return Phase(
            wall_s=wall,
            rate=count / wall,
            cpu_ms=(end.net - begin.net - idle.net * span) / count,
            cpu_ms_tasks_only=tasks,
            cpu_ms_uncorrected=uncorrected / count,
            foreign_share=foreign / (1000 * span * len(os.sched_getaffinity(0))),
            settled_s=end.at - stopped,
            stolen_ms=end.stolen - begin.stolen,
        )

    def _verified(self, count: int, done: Callable[[], bool], patience: float, started: float, stopped: float) -> float:
        """When all were as asked: `stopped`, or later."""
        if done():
            return stopped
        while not done():
            if time.monotonic() - stopped > patience:
                text = f"verify: the commands succeeded, but not all {count} were as asked {patience:.0f} s on"
                raise BenchError(text)
            time.sleep(0.02)
        return time.monotonic()

    @contextmanager
    def _look(self) -> Iterator[None]:
        """What this process burns inside is ours: it runs alone then, its client threads have ended."""
        before = time.process_time()
        try:
            yield
        finally:
            self._looking += (time.process_time() - before) * 1000


def _tasks() -> float | None:
    try:
        return int(_CPUACCT.read_text()) / 1e6
    except (OSError, ValueError):
        return None
