"""The record of one container. The words of state are the runtime-spec's; Docker's live in its API alone.

    creating -> created -> running -> stopped        (the table: shimd/container/lifecycle.py)

`state` in a record is what was last heard; the supervisor asks shim and kernel before it answers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import msgspec

from asyncrt.model.descriptor import Descriptor
from asyncrt.model.options import Options

State = Literal["creating", "created", "running", "paused", "stopped"]


class Exit(msgspec.Struct, frozen=True):
    """How it ended. Times in ns since 1970; memory_peak in bytes; -1 where the kernel did not say.

    `code` is the exit status, or 128 + signal. `oom_cgroup` is the cgroup whose limit killed (its path below
    the hierarchy's mount; "/": the machine ran out), `throttled_ns` for how long the CPU quota was used up,
    `memory_hits` and `fork_failures` how often the limits on memory and processes held something back. `lost` names the
    reason where nobody saw the end: then `code` was assumed.
    """

    code: int
    signal: int = 0
    core: bool = False
    started_ns: int = 0
    ended_ns: int = 0
    cpu_ns: int = -1
    memory_peak: int = -1
    oom_kills: int = -1
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    lost: str = ""
    oom_cgroup: str = ""
    throttled_ns: int = -1
    memory_hits: int = -1
    fork_failures: int = -1

    @property
    def oom_killed(self) -> bool:
        """Did the kernel kill something of it for want of memory? (docker's OOMKilled)"""
        return self.oom_kills > 0


class Container(msgspec.Struct, frozen=True):
    """A container's record. `timeline` is (phase, ns of CLOCK_MONOTONIC at its end), first entry the request.

    `index` counts from 0 within the request that made it (`run --count`). `error` is the line of a start that failed.
    `told` says how much of what its limits did in this run was told, in all by kind (events.py). `image` is the name of
    what it was made of, for people; options.image names the layers, `base` the image's manifest. `poststop_due`: its
    poststop hooks have not run yet.
    """

    id: str
    name: str
    options: Options
    index: int = 0
    state: State = "creating"
    created_ns: int = 0
    started_ns: int = 0
    pid: int = 0
    shim_pid: int = 0
    timeline: tuple[tuple[str, int], ...] = ()
    exit: Exit | None = None
    error: str = ""
    told: dict[str, int] = {}
    image: str = ""
    poststop_due: bool = False
    base: Descriptor | None = None


def durations(timeline: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Nanoseconds per phase, in order: each phase lasts from the entry before it to its own."""
    return {phase: end - begin for (_, begin), (phase, end) in pairwise(timeline)}
