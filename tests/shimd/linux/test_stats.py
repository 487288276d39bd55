"""Usage and events as numbers: from files as the kernel writes them, and from a container that lives."""

import os
import select
from collections.abc import Mapping
from pathlib import Path

import pytest

from shimd.linux import notices
from shimd.linux.cgroups import Hierarchy
from shimd.linux.sample import Sample, Sampler
from shimd.linux.stats import (
    BlockEntry,
    CpuStats,
    Events,
    HugepageStats,
    MemoryAmount,
    PidsStats,
    Usage,
    events,
    stats,
    usage,
)
from tests.shimd.configs import config, shell
from tests.shimd.line import until
from tests.shimd.stage import Stage

V2 = {
    "cpu.stat": "usage_usec 50\nuser_usec 30\nsystem_usec 20\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.max": "max\n",
    "memory.swap.current": "0\n",
    "memory.swap.max": "1024\n",
    "memory.swap.events": "high 0\nmax 3\nfail 0\n",
    "memory.stat": "anon 100\nfile 200\ninactive_file 150\nkernel 300\nsock 400\n",
    "memory.events.local": "low 0\noom 0\n",
    "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "pids.events": "max 9\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:16 rbytes=7 cost.usage=5\n7:0 \n",
    "hugetlb.2MB.current": "10\n",
    "hugetlb.2MB.rsvd.current": "11\n",
    "hugetlb.2MB.events": "max 2\n",
}
V1 = {
    "cpu/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 7\nnr_bursts 1\nburst_time 8\n",
    "cpuacct/cpuacct.usage": "50\n",
    "cpuacct/cpuacct.usage_user": "30\n",
    "cpuacct/cpuacct.usage_sys": "20\n",
    "cpuacct/cpuacct.usage_percpu": "20 30 \n",
    "memory/memory.usage_in_bytes": "4096\n",
    "memory/memory.max_usage_in_bytes": "8192\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.failcnt": "3\n",
    "memory/memory.memsw.limit_in_bytes": "1024\n",
    "memory/memory.stat": "cache 200\nrss 100\ninactive_file 1\ntotal_inactive_file 120\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "17\n",
    "pids/pids.events": "max 9\n",
    "blkio/blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio/blkio.throttle.io_service_bytes": "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
    "blkio/blkio.throttle.io_serviced": "8:0 Read 4\nTotal 4\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": "10\n",
    "hugetlb/hugetlb.2MB.max_usage_in_bytes": "12\n",
    "hugetlb/hugetlb.2MB.failcnt": "2\n",
}


def lay(base: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def v2(tmp_path: Path) -> list[Hierarchy]:
    lay(tmp_path / "box", V2)
    return [Hierarchy(2, str(tmp_path), ("cpu", "memory", "pids", "io", "hugetlb"))]


@pytest.fixture
def v1(tmp_path: Path) -> list[Hierarchy]:
    lay(tmp_path, {f"{name.split('/')[0]}/box/{name.split('/')[1]}": text for name, text in V1.items()})
    names = ("cpu", "cpuacct", "memory", "pids", "blkio", "hugetlb")
    return [Hierarchy(1, str(tmp_path / name), (name,)) for name in names]


def test_v2(v2: list[Hierarchy]) -> None:
    found = stats(v2, "/box")
    assert found.cpu == CpuStats(50_000, 30_000, 20_000, (), 5, 2, 7_000, -1, -1)
    assert found.memory.memory == MemoryAmount(4096, 8192, -1, 3)
    assert found.memory.swap == MemoryAmount(0, -1, 1024, 3)
    assert (found.memory.kernel.usage, found.memory.kernel_tcp.usage, found.memory.cache) == (300, 400, 200)
    assert found.memory.details["anon"] == 100
    assert found.pids == PidsStats(3, -1)
    assert found.block.bytes == (
        *(BlockEntry(8, 0, word, count) for word, count in (("read", 1), ("write", 2), ("discard", 5))),
        BlockEntry(254, 16, "read", 7),
    )
    assert [entry.amount for entry in found.block.operations] == [3, 4, 6]
    assert found.hugepages == {"2MB": HugepageStats(11, -1, 2)}
    assert events(v2, "/box") == Events(1, 2, 3, 4, 5, 6, 9, 2)
    assert usage(v2, "/box") == Usage(50_000, 8192, 5, "/", 7_000, 3, 9)


def test_v1(v1: list[Hierarchy]) -> None:
    found = stats(v1, "/box")
    assert found.cpu == CpuStats(50, 30, 20, (20, 30), 5, 2, 7, 1, 8)
    assert found.memory.memory == MemoryAmount(4096, 8192, -1, 3)
    assert found.memory.swap == MemoryAmount(-1, -1, 1024, -1)
    assert (found.memory.cache, found.memory.details["rss"]) == (200, 100)
    assert found.pids == PidsStats(3, 17)
    assert found.block.bytes == tuple(
        BlockEntry(8, 0, word, count) for word, count in (("read", 1), ("write", 2), ("total", 3))
    )
    assert found.block.operations == (BlockEntry(8, 0, "read", 4),)
    assert found.hugepages == {"2MB": HugepageStats(10, 12, 2)}
    assert events(v1, "/box") == Events(-1, -1, 3, -1, 5, -1, 9, 2)
    assert usage(v1, "/box") == Usage(50, 8192, 5, "/", 7, 3, 9)


def test_a_cgroup_that_is_gone_tells_nothing(v1: list[Hierarchy], v2: list[Hierarchy]) -> None:
    for trees in (v1, v2, []):
        found = stats(trees, "/other")
        assert set(found.cpu) == {-1, ()}
        assert set(found.memory.memory) == {-1}
        assert (found.pids, found.hugepages) == (PidsStats(-1, -1), {})
        assert set(events(trees, "/other")) == {-1}
        assert usage(trees, "/other") == Usage(-1, -1, -1, "", -1, -1, -1)


def test_a_sample_agrees(v1: list[Hierarchy], v2: list[Hierarchy]) -> None:
    assert Sampler(v2).sample("/box") == Sample(50_000, 7_000, 4096, 150, 3, 8, 2)
    assert Sampler(v1).sample("/box") == Sample(50, 7, 4096, 120, 3, 1, 2)
    for trees in (v1, v2, []):
        assert set(Sampler(trees).sample("/other")) == {-1}


@pytest.mark.root
def test_of_a_container(stage: Stage) -> None:
    script = "head -c 8388608 /dev/zero > /dev/shm/it; echo full; exec sleep 60"
    limits = {"memory": {"limit": 64 << 20}, "pids": {"limit": 17}, "cpu": {"quota": 50000}}
    box = stage.start(shell(script, linux={"resources": limits}))
    assert until(lambda: box.log("stdout") == b"full\n")
    found = stats(stage.hierarchies, box.cgroup)
    assert found.cpu.usage_ns > 0
    assert found.memory.memory.limit == 64 << 20
    assert 8 << 20 <= found.memory.memory.usage <= 64 << 20
    assert found.memory.cache >= 8 << 20
    assert found.pids == PidsStats(1, 17)
    assert events(stage.hierarchies, box.cgroup).oom_kills == 0
    assert len(found.cpu.per_cpu_ns) in (0, os.cpu_count())


@pytest.mark.root
def test_the_kernel_tells_when_memory_runs_out(stage: Stage) -> None:
    box = stage.start(config("sleep", "60", linux={"resources": {"memory": {"limit": 16 << 20, "swap": 16 << 20}}}))
    [tree] = [tree for tree in stage.hierarchies if "memory" in tree.controllers]
    notice = notices.of_memory(tree, tree.mount + box.cgroup)
    try:
        poll = select.poll()
        poll.register(notice.fd, notice.events)
        assert poll.poll(0) == []
        box.run_inside("tail", "/dev/zero")
        assert poll.poll(10_000)
        assert until(lambda: events(stage.hierarchies, box.cgroup).oom_kills == 1)
        assert notices.oom_origin(tree, box.cgroup) == box.cgroup
        notices.rearm(notice)
        assert poll.poll(0) == []
    finally:
        os.close(notice.fd)


@pytest.mark.root
def test_what_a_limit_did(stage: Stage) -> None:
    limits = {"memory": {"limit": 16 << 20, "swap": 32 << 20}, "pids": {"limit": 3}}
    box = stage.start(config("sleep", "60", linux={"resources": limits}))
    box.run_inside("sh", "-c", "sleep 1 & sleep 1 & sleep 1")
    box.run_inside("tail", "/dev/zero")
    assert until(lambda: events(stage.hierarchies, box.cgroup).oom_kills == 1)
    told = events(stage.hierarchies, box.cgroup)
    assert told.fork_failures >= 1
    assert told.limit_hits >= 1
