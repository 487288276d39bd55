"""Operations on cgroups: made and limited by the shim, entered by init.

A container enters the hierarchies that give it isolation, accounting or protection (BASE), and others when a limit
asks for them; each one costs a mkdir, an entry and a rmdir per container.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from shimd.container.making import Making, OutsideOperation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import cgroups
from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import Resources

# cpu: fair shares between containers; cpuacct and memory: the exit record; devices: its rules are inherited from the
# parent; freezer: pause; pids: fork bombs are counted. cpuset and blkio do nothing without a limit.
BASE = frozenset(("cpu", "cpuacct", "memory", "devices", "freezer", "pids"))


class CreateCgroup(NamedTuple):
    """Make the container's cgroup in one hierarchy and hold the fd by which init enters it."""

    hierarchy: Hierarchy

    def describe(self) -> tuple[str, str]:
        return "create cgroup", f"in {self.hierarchy.mount}"

    def execute(self, making: Making) -> None:
        directory = self.hierarchy.mount + making.cgroup
        os.mkdir(directory, 0o755)
        try:
            self.hold(making)
        except OSError:
            cgroups.remove(directory)
            raise

    def hold(self, making: Making) -> None:
        """Keep the fd by which init enters a cgroup that exists."""
        directory = self.hierarchy.mount + making.cgroup
        if self.hierarchy.version == 2:
            making.cgroup_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            return
        if "cpuset" in self.hierarchy.controllers:
            cgroups.inherit_cpuset(os.path.dirname(directory), directory)
        making.task_fds.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))

    def undo(self, making: Making) -> None:
        cgroups.remove(self.hierarchy.mount + making.cgroup)


class WriteCgroup(NamedTuple):
    """Write one limit."""

    mount: str
    file: str
    value: str

    def describe(self) -> tuple[str, str]:
        return "set limit", f"{self.file}={self.value}"

    def execute(self, making: Making) -> None:
        cgroups.write(self.mount + making.cgroup, self.file, self.value)

    def undo(self, making: Making) -> None:
        """The limit goes with its cgroup."""


class MissingController(NamedTuple):
    """A limit that this kernel cannot keep: said at start, never skipped."""

    limit: str
    controller: str

    def describe(self) -> tuple[str, str]:
        return "set limit", f"{self.limit} (this machine mounts no {self.controller} controller)"

    def execute(self, making: Making) -> None:
        raise OSError(95, os.strerror(95), self.controller)

    def undo(self, making: Making) -> None:
        """Nothing was done."""


class EnterCgroups(NamedTuple):
    """init, v1: enter each cgroup (v2: it was born inside)."""

    def describe(self) -> tuple[str, str]:
        return "enter", "cgroups"

    def execute(self, making: Making) -> None:
        for fd in making.task_fds:
            os.write(fd, b"0")


def limits(resources: Resources, version: int) -> list[tuple[str, str, str, str]]:
    """(name for people, controller, file, value) for every limit that is set (config-linux.md, "Control groups")."""
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    rows: list[tuple[str, str, str, str]] = []
    if version == 1:
        if memory.limit is not None:
            rows.append(("memory.limit", "memory", "memory.limit_in_bytes", str(memory.limit)))
        if memory.swap is not None:  # v1 counts memory and swap together, as the spec does
            rows.append(("memory.swap", "memory", "memory.memsw.limit_in_bytes", str(memory.swap)))
        if memory.reservation is not None:
            rows.append(("memory.reservation", "memory", "memory.soft_limit_in_bytes", str(memory.reservation)))
        if cpu.shares is not None:
            rows.append(("cpu.shares", "cpu", "cpu.shares", str(cpu.shares)))
        if cpu.period is not None:
            rows.append(("cpu.period", "cpu", "cpu.cfs_period_us", str(cpu.period)))
        if cpu.quota is not None:
            rows.append(("cpu.quota", "cpu", "cpu.cfs_quota_us", str(cpu.quota)))
    else:
        if memory.limit is not None:
            rows.append(("memory.limit", "memory", "memory.max", _most(memory.limit)))
        if memory.swap is not None:
            if memory.swap >= 0 and memory.limit is None:
                raise RuntimeTrouble(
                    Trouble("plan", "$.linux.resources.memory.swap", "it counts memory too, and memory has no limit")
                )
            swap = memory.swap - memory.limit if memory.swap >= 0 and memory.limit is not None else -1
            rows.append(("memory.swap", "memory", "memory.swap.max", _most(swap)))
        if memory.reservation is not None:
            rows.append(("memory.reservation", "memory", "memory.low", str(memory.reservation)))
        if cpu.shares is not None:  # 2..262144 onto 1..10000, as the spec's conversion has it
            weight = 1 + (max(2, min(262144, cpu.shares)) - 2) * 9999 // 262142
            rows.append(("cpu.shares", "cpu", "cpu.weight", str(weight)))
        if cpu.quota is not None or cpu.period is not None:
            quota = _most(cpu.quota if cpu.quota is not None else -1)
            rows.append(("cpu.quota", "cpu", "cpu.max", f"{quota} {cpu.period or 100000}"))
    if cpu.cpus:
        rows.append(("cpu.cpus", "cpuset", "cpuset.cpus", cpu.cpus))
    if cpu.mems:
        rows.append(("cpu.mems", "cpuset", "cpuset.mems", cpu.mems))
    if pids.limit is not None:
        rows.append(("pids.limit", "pids", "pids.max", _most(pids.limit)))
    return rows


def _most(value: int) -> str:
    return "max" if value < 0 else str(value)


def compile_cgroups(resources: Resources, trees: list[Hierarchy]) -> list[OutsideOperation]:
    """The outside steps: a cgroup per hierarchy that is needed, then its limits."""
    version = trees[0].version if trees else 1
    wanted = limits(resources, version)
    asked = {controller for _, controller, _, _ in wanted}
    used = [tree for tree in trees if tree.version == 2 or (BASE | asked) & set(tree.controllers)]
    steps: list[OutsideOperation] = [CreateCgroup(tree) for tree in used]
    mount_of = {controller: tree.mount for tree in used for controller in tree.controllers}
    for name, controller, file, value in wanted:
        mount = mount_of.get(controller)
        steps.append(WriteCgroup(mount, file, value) if mount else MissingController(name, controller))
    return steps


class Usage(NamedTuple):
    """What the cgroups say when all is over; -1 where they do not. ns and bytes."""

    cpu_ns: int
    memory_peak: int
    oom_kills: int


def usage(trees: list[Hierarchy], cgroup: str) -> Usage:
    """Read before the cgroups are removed: afterwards nobody knows."""
    if trees and trees[0].version == 2:
        directory = trees[0].mount + cgroup
        cpu_us = cgroups.read_number(directory, "cpu.stat", "usage_usec")
        return Usage(
            cpu_us * 1000 if cpu_us >= 0 else -1,
            cgroups.read_number(directory, "memory.peak"),
            cgroups.read_number(directory, "memory.events", "oom_kill"),
        )
    mounts = {controller: tree.mount + cgroup for tree in trees for controller in tree.controllers}
    return Usage(
        cgroups.read_number(mounts.get("cpuacct", ""), "cpuacct.usage"),
        cgroups.read_number(mounts.get("memory", ""), "memory.max_usage_in_bytes"),
        cgroups.read_number(mounts.get("memory", ""), "memory.oom_control", "oom_kill"),
    )
