"""Operations on when, where and how a process runs: scheduler, I/O priority, CPUs, memory nodes, execution domain."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.making import Making, Operation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import processes, scheduling
from shimd.spec.config import IoPriority, Linux, MemoryPolicy, Process, Scheduler

SHORTEST_TIME, LONGEST_TIME = 1 << 10, (1 << 63) - 1  # of SCHED_DEADLINE (sched_setattr(2))
DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}  # personality(2)


class SetScheduler(NamedTuple):
    """sched_setattr(2) after the cgroups were entered: real-time policies need a budget there (cgroup v1)."""

    wish: Scheduler

    def describe(self) -> tuple[str, str]:
        return "set scheduler to", self.wish.policy

    def execute(self, making: Making) -> None:
        wish = self.wish
        flags = sum(scheduling.FLAGS[name.removeprefix("SCHED_FLAG_")] for name in set(wish.flags))
        policy = scheduling.POLICIES[wish.policy.removeprefix("SCHED_")]
        times = (wish.runtime or 0, wish.deadline or 0, wish.period or 0)
        try:
            scheduling.sched_setattr(policy, flags, wish.nice, wish.priority, *times)
        except OSError as error:
            if error.errno == errno.EPERM:
                cause = "it needs CAP_SYS_NICE, and on cgroup v1 a real-time budget (cpu.realtimeRuntime)"
                raise OSError(errno.EPERM, cause) from error
            if beyond := _beyond(wish):
                raise RuntimeTrouble(Trouble(*self.describe(), beyond, errno=errno.EINVAL)) from error
            raise


def _beyond(wish: Scheduler) -> str:
    """Which of the times of SCHED_DEADLINE this kernel cannot count."""
    for name, value in (("runtime", wish.runtime), ("deadline", wish.deadline), ("period", wish.period)):
        if value and not SHORTEST_TIME <= value <= LONGEST_TIME:
            limits = f"must be between {SHORTEST_TIME} and {LONGEST_TIME}"
            return f"sched_setattr: `SCHED_DEADLINE` {name} {value} {limits}"
    return ""


class SetIoPriority(NamedTuple):
    """ioprio_set(2)."""

    wish: IoPriority

    def describe(self) -> tuple[str, str]:
        return "set I/O priority to", f"{self.wish.class_} {self.wish.priority}"

    def execute(self, making: Making) -> None:
        scheduling.ioprio_set(scheduling.IO_CLASSES[self.wish.class_.removeprefix("IOPRIO_CLASS_")], self.wish.priority)


class SetAffinity(NamedTuple):
    """sched_setaffinity(2), to a list of CPUs as cpuset(7) writes it."""

    cpus: str

    def describe(self) -> tuple[str, str]:
        return "set CPU affinity to", self.cpus

    def execute(self, making: Making) -> None:
        os.sched_setaffinity(0, members(self.cpus))


class SetMemoryPolicy(NamedTuple):
    """set_mempolicy(2) after the cgroups were entered: nodes are among those of its cpuset."""

    wish: MemoryPolicy

    def describe(self) -> tuple[str, str]:
        return "set memory policy to", f"{self.wish.mode} {self.wish.nodes}".rstrip()

    def execute(self, making: Making) -> None:
        mode = scheduling.MEMORY_MODES[self.wish.mode.removeprefix("MPOL_")]
        for name in self.wish.flags:
            mode |= scheduling.MEMORY_FLAGS[name.removeprefix("MPOL_F_")]
        try:
            scheduling.set_mempolicy(mode, members(self.wish.nodes))
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise OSError(errno.ENOSYS, "this kernel has no memory policies (CONFIG_NUMA)") from error
            raise


class SetPersonality(NamedTuple):
    """personality(2)."""

    domain: str

    def describe(self) -> tuple[str, str]:
        return "set execution domain to", self.domain

    def execute(self, making: Making) -> None:
        processes.personality(DOMAINS[self.domain])


def members(text: str) -> set[int]:
    """The numbers of a list as cpuset(7) has it, also with a stride: `0-3,7`, `0-15:2/4`. "" has none."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        span, _, stride = part.strip().partition(":")
        first, _, last = span.partition("-")
        used, _, group = stride.partition("/")
        start = int(first)
        for number in range(start, int(last or first) + 1):
            if not group or (number - start) % int(group) < int(used):
                found.add(number)
    return found


def own_steps(process: Process) -> list[Operation]:
    """What a process document asks for itself."""
    steps: list[Operation] = []
    if process.scheduler is not None:
        steps.append(SetScheduler(process.scheduler))
    if process.io_priority is not None:
        steps.append(SetIoPriority(process.io_priority))
    return steps


def common_steps(linux: Linux) -> tuple[Operation, ...]:
    """What a config asks for every process of its container, execs too."""
    steps: list[Operation] = []
    if linux.memory_policy is not None:
        steps.append(SetMemoryPolicy(linux.memory_policy))
    if linux.personality is not None:
        steps.append(SetPersonality(linux.personality.domain))
    return tuple(steps)
