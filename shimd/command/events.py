"""events: statistics and out-of-memory events, a JSON line each, as runc writes them."""

from __future__ import annotations

import os
import select
from typing import Any

from shimd.command import removal, status
from shimd.command.context import Context
from shimd.command.flags import Misuse, text
from shimd.command.record import Record
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import stats
from shimd.linux.cgroups import Hierarchy
from shimd.linux.stats import BlockEntry, MemoryAmount, Stats
from shimd.spec import text as json

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
OOM_SECONDS = 0.5  # between two looks at the counter of kills: it has no event on v1 but one that costs a thread


def main(context: Context) -> int:
    shelf = context.shelf()
    record = shelf.read()
    if status.of(shelf, record) == lifecycle.STOPPED:
        raise RuntimeTrouble(Trouble("events of", record.id, "container not running", errno=3))
    trees = [Hierarchy(version, mount, tuple(names)) for version, mount, names in record.hierarchies]
    interval = seconds(text(context.values, "interval"))
    if context.values["stats"]:
        _tell("stats", record.id, told(stats.stats(trees, record.cgroup)))
        return 0
    _follow(record, trees, interval)
    return 0


def _follow(record: Record, trees: list[Hierarchy], interval: float) -> None:
    """Until init ends."""
    init = removal.open_init(record)
    if init < 0:
        return
    poll = select.poll()
    poll.register(init, select.POLLIN)
    kills = stats.events(trees, record.cgroup).oom_kills
    waited = 0.0
    while not poll.poll(min(OOM_SECONDS, interval) * 1000):
        waited += min(OOM_SECONDS, interval)
        if (now := stats.events(trees, record.cgroup).oom_kills) > kills:
            kills = now
            _tell("oom", record.id, None)
        if waited >= interval:
            waited = 0.0
            _tell("stats", record.id, told(stats.stats(trees, record.cgroup)))
    if stats.events(trees, record.cgroup).oom_kills > kills:
        _tell("oom", record.id, None)
    os.close(init)


def _tell(kind: str, id: str, data: dict[str, Any] | None) -> None:
    line = {"type": kind, "id": id} | ({} if data is None else {"data": data})
    os.write(1, (json.write(line) + "\n").encode())


def seconds(word: str) -> float:
    """A duration as Go writes them: 500ms, 5s, 1m."""
    digits = word.rstrip("hms")
    try:
        value = float(digits) * UNITS[word[len(digits) :]]
    except (ValueError, KeyError):
        raise Misuse(f"--interval wants a duration such as 5s, not {word!r}") from None
    if not 0 < value < 1e6:
        raise Misuse("duration interval must be greater than 0")
    return value


def told(now: Stats) -> dict[str, Any]:
    """runc's names (types/events.go); what a cgroup does not tell is left out."""
    cpu, memory = now.cpu, now.memory
    return {
        "cpu": {
            "usage": _known(
                total=cpu.usage_ns, kernel=cpu.system_ns, user=cpu.user_ns, percpu=list(cpu.per_cpu_ns) or -1
            ),
            "throttling": _known(
                periods=cpu.periods, throttledPeriods=cpu.throttled_periods, throttledTime=cpu.throttled_ns
            ),
        },
        "memory": {
            "cache": max(0, memory.cache),
            "usage": _amount(memory.memory),
            "swap": _amount(memory.swap),
            "kernel": _amount(memory.kernel),
            "kernelTCP": _amount(memory.kernel_tcp),
            "raw": dict(memory.details),
        },
        "pids": _known(current=now.pids.current, limit=now.pids.limit),
        "blkio": {
            "ioServiceBytesRecursive": _entries(now.block.bytes),
            "ioServicedRecursive": _entries(now.block.operations),
        },
        "hugetlb": {
            size: _known(usage=pages.usage, max=pages.peak, failcnt=pages.failures)
            for size, pages in now.hugepages.items()
        },
    }


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != -1}


def _amount(amount: MemoryAmount) -> dict[str, Any]:
    return _known(usage=amount.usage, max=amount.peak, limit=amount.limit, failcnt=amount.failures)


def _entries(entries: tuple[BlockEntry, ...]) -> list[dict[str, Any]]:
    return [
        {"major": entry.major, "minor": entry.minor, "op": entry.operation.capitalize(), "value": entry.amount}
        for entry in entries
    ]
