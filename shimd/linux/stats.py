"""What the cgroups of a container say: usage and events, as numbers, from v1 and v2 alike.

Times are nanoseconds, sizes bytes. -1 is what a cgroup does not tell (an older kernel, a controller that is not there,
a cgroup that is gone), and for a limit: there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shimd.linux import cgroups, notices
from shimd.linux.cgroups import Hierarchy

_NO_LIMIT = 1 << 62  # v1 writes a number of about 2^63 where there is no limit
_HUGE_FILE = re.compile(r"hugetlb\.([0-9]+[KMG]B)\.")


class Usage(NamedTuple):
    """What the cgroups say when all is over; -1 where they do not. ns and bytes."""

    cpu_ns: int
    memory_peak: int
    oom_kills: int
    oom_cgroup: str
    """Whose limit it was that killed (notices.oom_origin); "" if there was no kill."""
    throttled_ns: int
    """For how long the CPU quota was used up."""
    memory_hits: int
    """How often the memory limit held something back."""
    fork_failures: int


class CpuStats(NamedTuple):
    """Time used, and how often the quota ran out."""

    usage_ns: int
    user_ns: int
    system_ns: int
    per_cpu_ns: tuple[int, ...]
    """v1 only."""
    periods: int
    throttled_periods: int
    throttled_ns: int
    burst_periods: int
    burst_ns: int


class MemoryAmount(NamedTuple):
    """One kind of memory. `failures`: how often the limit was hit."""

    usage: int
    peak: int
    limit: int
    failures: int


class MemoryStats(NamedTuple):
    """`swap` is memory and swap together on v1, swap alone on v2, as the kernel counts."""

    memory: MemoryAmount
    swap: MemoryAmount
    kernel: MemoryAmount
    kernel_tcp: MemoryAmount
    cache: int
    details: Mapping[str, int]
    """memory.stat as it is."""


class PidsStats(NamedTuple):
    """Tasks: how many there are, and may be."""

    current: int
    limit: int


class BlockEntry(NamedTuple):
    """A count of one device; `operation` is read, write, discard, sync, async or total."""

    major: int
    minor: int
    operation: str
    amount: int


class BlockStats(NamedTuple):
    """Bytes and operations by device."""

    bytes: tuple[BlockEntry, ...]
    operations: tuple[BlockEntry, ...]


class HugepageStats(NamedTuple):
    """Of one page size; `peak` is v1's."""

    usage: int
    peak: int
    failures: int


class Stats(NamedTuple):
    """Everything of one moment."""

    cpu: CpuStats
    memory: MemoryStats
    pids: PidsStats
    block: BlockStats
    hugepages: Mapping[str, HugepageStats]


class Events(NamedTuple):
    """What has happened so far, as counts. v1 tells the kills, and how often memory's limit was hit (`limit_hits`)."""

    low: int
    high: int
    limit_hits: int
    oom: int
    oom_kills: int
    oom_group_kills: int
    fork_failures: int
    throttled_periods: int = -1
    """In how many periods the CPU quota was used up."""


class _Files:
    """The files of one container's cgroups, whichever hierarchy they are in."""

    def __init__(self, trees: Sequence[Hierarchy], cgroup: str) -> None:
        self.version = trees[0].version if trees else 1
        self._directories = {controller: tree.mount + cgroup for tree in trees for controller in tree.controllers}
        self._core = trees[0].mount + cgroup if trees else ""

    def directory(self, controller: str) -> str:
        return self._core if self.version == 2 else self._directories.get(controller, "")

    def text(self, controller: str, name: str) -> str:
        try:
            return cgroups.read_whole(self.directory(controller), name)
        except OSError:
            return ""

    def number(self, controller: str, name: str, key: str = "") -> int:
        return cgroups.read_number(self.directory(controller), name, key)

    def pairs(self, controller: str, name: str) -> dict[str, int]:
        """Of a file of lines `key number`."""
        split = (line.split() for line in self.text(controller, name).splitlines())
        return {words[0]: int(words[1]) for words in split if len(words) == 2 and words[1].isdigit()}


def usage(trees: list[Hierarchy], cgroup: str) -> Usage:
    """Read before the cgroups are removed: afterwards nobody knows."""
    files = _Files(trees, cgroup)
    if files.version == 2:
        cpu = files.pairs("cpu", "cpu.stat")
        cpu_ns, throttled_ns = (_scaled(cpu.get(key, -1), 1000) for key in ("usage_usec", "throttled_usec"))
        peak, told = files.number("memory", "memory.peak"), files.pairs("memory", "memory.events")
        kills, hits = told.get("oom_kill", -1), told.get("max", -1)
    else:
        cpu_ns = files.number("cpuacct", "cpuacct.usage")
        throttled_ns = files.number("cpu", "cpu.stat", "throttled_time")
        peak = files.number("memory", "memory.max_usage_in_bytes")
        kills = files.number("memory", "memory.oom_control", "oom_kill")
        hits = files.number("memory", "memory.failcnt")
    forks = files.number("pids", "pids.events", "max")
    return Usage(cpu_ns, peak, kills, _origin(trees, cgroup) if kills > 0 else "", throttled_ns, hits, forks)


def _origin(trees: Sequence[Hierarchy], cgroup: str) -> str:
    return next((notices.oom_origin(tree, cgroup) for tree in trees if "memory" in tree.controllers), "")


def stats(trees: Sequence[Hierarchy], cgroup: str) -> Stats:
    """Usage now. A cgroup that is gone says -1 everywhere."""
    files = _Files(trees, cgroup)
    read = (_cpu_2, _memory_2, _block_2) if files.version == 2 else (_cpu_1, _memory_1, _block_1)
    cpu, memory, block = read
    pids = PidsStats(files.number("pids", "pids.current"), files.number("pids", "pids.max"))
    return Stats(cpu(files), memory(files), pids, block(files), _hugepages(files))


def events(trees: Sequence[Hierarchy], cgroup: str) -> Events:
    """What the limits have done so far."""
    files = _Files(trees, cgroup)
    forks = files.number("pids", "pids.events", "max")
    throttled = files.number("cpu", "cpu.stat", "nr_throttled")
    if files.version == 1:
        hits = files.number("memory", "memory.failcnt")
        kills = files.number("memory", "memory.oom_control", "oom_kill")
        return Events(-1, -1, hits, -1, kills, -1, forks, throttled)
    told = files.pairs("memory", "memory.events")
    low, high, hits, oom = (told.get(word, -1) for word in ("low", "high", "max", "oom"))
    return Events(low, high, hits, oom, told.get("oom_kill", -1), told.get("oom_group_kill", -1), forks, throttled)


def _scaled(number: int, by: int) -> int:
    return number * by if number >= 0 else -1


def _cpu_2(files: _Files) -> CpuStats:
    told = files.pairs("cpu", "cpu.stat")

    def ns(key: str) -> int:
        return _scaled(told.get(key, -1), 1000)

    counts = told.get("nr_periods", -1), told.get("nr_throttled", -1)
    bursts = told.get("nr_bursts", -1), ns("burst_usec")
    return CpuStats(ns("usage_usec"), ns("user_usec"), ns("system_usec"), (), *counts, ns("throttled_usec"), *bursts)


def _cpu_1(files: _Files) -> CpuStats:
    told = files.pairs("cpu", "cpu.stat")
    per_cpu = tuple(int(word) for word in files.text("cpuacct", "cpuacct.usage_percpu").split())
    return CpuStats(
        files.number("cpuacct", "cpuacct.usage"),
        files.number("cpuacct", "cpuacct.usage_user"),
        files.number("cpuacct", "cpuacct.usage_sys"),
        per_cpu,
        *(told.get(key, -1) for key in ("nr_periods", "nr_throttled", "throttled_time", "nr_bursts", "burst_time")),
    )


def _memory_2(files: _Files) -> MemoryStats:
    def amount(kind: str) -> MemoryAmount:
        used, peak, limit = (files.number("memory", f"memory.{kind}{word}") for word in ("current", "peak", "max"))
        return MemoryAmount(used, peak, limit, files.number("memory", f"memory.{kind}events", "max"))

    details = files.pairs("memory", "memory.stat")
    kernel = MemoryAmount(details.get("kernel", -1), -1, -1, -1)
    tcp = MemoryAmount(details.get("sock", -1), -1, -1, -1)
    return MemoryStats(amount(""), amount("swap."), kernel, tcp, details.get("file", -1), details)


def _memory_1(files: _Files) -> MemoryStats:
    def amount(kind: str) -> MemoryAmount:
        names = [
            f"memory.{kind}{word}" for word in ("usage_in_bytes", "max_usage_in_bytes", "limit_in_bytes", "failcnt")
        ]
        used, peak, limit, failures = (files.number("memory", name) for name in names)
        return MemoryAmount(used, peak, limit if limit < _NO_LIMIT else -1, failures)

    details = files.pairs("memory", "memory.stat")
    memory, swap, kernel, tcp = (amount(kind) for kind in ("", "memsw.", "kmem.", "kmem.tcp."))
    return MemoryStats(memory, swap, kernel, tcp, details.get("cache", -1), details)


def _block_2(files: _Files) -> BlockStats:
    """Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`."""
    found: dict[str, list[BlockEntry]] = {"bytes": [], "ios": []}
    for line in files.text("io", "io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        for word in words:
            key, _, count = word.partition("=")
            operation = {"r": "read", "w": "write", "d": "discard"}.get(key[:1], "")
            if key[1:] in found and operation and minor.isdigit():
                found[key[1:]].append(BlockEntry(int(major), int(minor), operation, int(count)))
    return BlockStats(tuple(found["bytes"]), tuple(found["ios"]))


# With the BFQ scheduler its counts are complete; else those of throttling are.
_BLOCK_KINDS = ("bfq.{}_recursive", "throttle.{}_recursive", "throttle.{}")


def _block_1(files: _Files) -> BlockStats:
    for kind in _BLOCK_KINDS:
        by_bytes = tuple(_entries(files.text("blkio", "blkio." + kind.format("io_service_bytes"))))
        if by_bytes:
            return BlockStats(by_bytes, tuple(_entries(files.text("blkio", "blkio." + kind.format("io_serviced")))))
    return BlockStats((), ())


def _entries(text: str) -> Iterator[BlockEntry]:
    """Lines such as `8:0 Read 4096`; the last is a `Total` of all devices."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            major, _, minor = words[0].partition(":")
            yield BlockEntry(int(major), int(minor), words[1].lower(), int(words[2]))


def _hugepages(files: _Files) -> dict[str, HugepageStats]:
    found: dict[str, HugepageStats] = {}
    directory = files.directory("hugetlb")
    for size in sorted({match[1] for name in cgroups.names(directory) if (match := _HUGE_FILE.match(name))}):

        def number(name: str, key: str = "", size: str = size) -> int:
            told = files.number("hugetlb", f"hugetlb.{size}.rsvd.{name}", key)
            return told if told >= 0 else files.number("hugetlb", f"hugetlb.{size}.{name}", key)

        if files.version == 2:
            found[size] = HugepageStats(number("current"), -1, number("events", "max"))
        else:
            found[size] = HugepageStats(number("usage_in_bytes"), number("max_usage_in_bytes"), number("failcnt"))
    return found
