"""The exit record: written into the container's directory before it is announced, read by the next supervisor.

One write into a fresh file: whoever finds it short (the shim was killed between open and write) takes it as absent.
No fsync: it survives the death of every process here, not the machine's (DESIGN section 5).
"""

from __future__ import annotations

import os
import time

from shimd.container.plan import Plan
from shimd.linux import cgroups
from shimd.linux.stats import usage
from shimd.wire.codec import pack_record
from shimd.wire.messages import ExitRecord

NAME = "exit"


def of_status(status: int, cpu_seconds: float, started_ns: int) -> ExitRecord:
    """The record of a wait status (wait(2)); the code is 128 + signal for a killed process, as shells have it."""
    killer = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = 128 + killer if killer else os.WEXITSTATUS(status)
    core = bool(killer and os.WCOREDUMP(status))
    return ExitRecord(code, killer, core, started_ns, time.time_ns(), int(cpu_seconds * 1e9))


def with_usage(record: ExitRecord, plan: Plan, cgroup: str) -> ExitRecord:
    """Add what the cgroups counted; cpu time falls back to what the waited-for processes used."""
    counted = usage(list(plan.hierarchies), cgroup)
    cpu_ns = counted.cpu_ns if counted.cpu_ns >= 0 else record.cpu_ns
    return record._replace(
        cpu_ns=cpu_ns,
        memory_peak=counted.memory_peak,
        oom_kills=counted.oom_kills,
        oom_cgroup=counted.oom_cgroup,
        throttled_ns=counted.throttled_ns,
        memory_hits=counted.memory_hits,
        fork_failures=counted.fork_failures,
    )


def write(directory: str, record: ExitRecord) -> None:
    """Put the record on disk. OSError if there is no room: the shim then holds it and tries again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    fd = os.open(f"{directory}/{NAME}", flags, 0o600)
    try:
        os.write(fd, pack_record(record))
    finally:
        os.close(fd)


def kill_members(plan: Plan, cgroup: str) -> None:
    """SIGKILL all that is left in the cgroups of a container without a pid namespace of its own."""
    for hierarchy in plan.hierarchies[:1]:
        cgroups.kill(hierarchy, hierarchy.mount + cgroup)
