"""What containers use: samples of their cgroups, and the processes in them.

Files are read in a worker thread: hundreds of cgroups take the kernel a while (memory.stat sums up over all cores).
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.stop import task_of
from asyncrt.errors import BadRequest
from asyncrt.model.container import Container
from asyncrt.model.stats import Pressure, Process, Stats
from asyncrt.supervisor import pressure as pressures
from asyncrt.supervisor.pressure import Trigger
from shimd.linux import cgroups
from shimd.linux.sample import Sample, Sampler

SHORTEST = 0.1  # seconds between two samples
LONGEST = 4096  # bytes of a command that are told
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


async def follow(engine: Engine, refs: Sequence[str], interval: float, stream: bool) -> AsyncIterator[list[Stats]]:
    """A list per interval (seconds): of those named, or of all that run, in the order of the table.

    One sample without `stream`. A named container that does not run is a Conflict at first; later it is left out, and
    when none is left that was named, the stream ends.
    """
    if not SHORTEST <= interval <= 3600:
        raise BadRequest("read", "interval", f"{interval:g} s cannot be given", f"from {SHORTEST:g} to 3600 s")
    named = [engine.table.find(ref, "stats of") for ref in refs]
    for container in named:
        task_of(engine, container, "stats of")
    wanted = [container.id for container in named]
    sampler = Sampler(engine.cgroups.hierarchies)
    before: dict[str, Stats] = {}
    while True:
        now = trio.current_time()
        running = _running(engine, wanted)
        taken = await trio.to_thread.run_sync(_take, engine, sampler, running)
        told = [_told(container, time_ns, sample, before.get(container.id)) for container, time_ns, sample in taken]
        before = {one.id: one for one in told}
        yield told
        if not stream or (wanted and not running):
            return
        await trio.sleep_until(now + interval)


def _running(engine: Engine, ids: Sequence[str]) -> list[Container]:
    chosen = [engine.table.get(id) for id in ids] if ids else list(engine.table)
    return [one for one in chosen if one is not None and one.state in ("running", "paused")]


def _take(engine: Engine, sampler: Sampler, containers: list[Container]) -> list[tuple[Container, int, Sample]]:
    return [(one, time.time_ns(), sampler.sample(engine.cgroups.of(one.id))) for one in containers]


def _told(container: Container, time_ns: int, sample: Sample, before: Stats | None) -> Stats:
    since_ns, used_ns = (container.started_ns, 0) if before is None else (before.time_ns, before.cpu_ns)
    passed = time_ns - since_ns
    percent = -1.0 if sample.cpu_ns < 0 or used_ns < 0 or passed <= 0 else (sample.cpu_ns - used_ns) / passed * 100
    cache = max(sample.cache, 0)
    return Stats(
        container.id,
        container.name,
        time_ns,
        sample.cpu_ns,
        round(percent, 2),
        sample.throttled_ns,
        max(sample.memory - cache, 0) if sample.memory >= 0 else -1,
        max(container.options.memory, 0),
        sample.cache,
        sample.pids,
        max(container.options.pids_limit, 0),
        sample.read_bytes,
        sample.written_bytes,
    )


async def pressure(
    engine: Engine, container: Container, wish: Trigger, tell: Callable[[Pressure | None], Awaitable[None]]
) -> None:
    """Tell None once it is watched, then a reading whenever the trigger fired (which is an event, too); until it ended.

    Conflict if it does not run, or where this machine keeps no account.
    """
    task_of(engine, container, "watch")
    directory = await trio.to_thread.run_sync(pressures.place, engine.cgroups, container.id)
    async with pressures.told(directory, wish) as readings:
        await tell(None)
        async for reading in readings:
            waited = {"some_total_us": reading.some_total_us, "full_total_us": reading.full_total_us}
            engine.note(f"{wish.resource}_pressure", container, stall_us=wish.stall_us, kind=wish.kind, **waited)
            await tell(reading)


async def top(engine: Engine, container: Container) -> list[Process]:
    """The processes of a container, by pid. Conflict if it does not run."""
    task_of(engine, container, "list processes of")
    return await trio.to_thread.run_sync(_processes, engine.cgroups.directory(container.id))


def _processes(directory: str) -> list[Process]:
    found = (_process(pid) for pid in sorted(cgroups.all_processes(directory)))
    return [one for one in found if one is not None]


def _process(pid: int) -> Process | None:
    """None: it ended meanwhile. proc_pid_stat(5), proc_pid_status(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()[:LONGEST]
    except (FileNotFoundError, ProcessLookupError):
        return None
    status = dict(line.split(b":", 1) for line in lines if b":" in line)
    name = stat[stat.index(b"(") + 1 : stat.rindex(b")")]
    fields = stat[stat.rindex(b")") + 2 :].split()
    words = command.rstrip(b"\0").replace(b"\0", b" ") or b"[" + name + b"]"
    inside = status.get(b"NSpid", b"").split()
    return Process(
        pid,
        int(inside[-1]) if inside else pid,
        int(fields[1]),
        int(status[b"Uid"].split()[1]),
        fields[0].decode(),
        _boot_ns() + int(fields[19]) * 1_000_000_000 // _TICKS,
        (int(fields[11]) + int(fields[12])) * 1_000_000_000 // _TICKS,
        int(fields[21]) * _PAGE,
        words.decode(errors="replace"),
    )


def _boot_ns() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
