"""The accelerator of an exec: its child's steps as a script (shimd.linux.script), so that it runs no Python.

An exec is a fork of the shim, and each line of Python that a fresh fork runs copies pages. Most execs are the
container's own process with another command and environment: that shape is compiled once, by the zygote, and a shim
fills in what is the exec's own. The reference is `entering`; the rules are those of `scripting`: what is unusual is
left to it, what a script refuses is done again by it, and it has the words.

The child is a fork and shares no memory with its shim, as init does until its execve: it joins a cgroup where others
live already, and the OOM killer, which takes along all who share a victim's memory, would take the shim.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
from collections.abc import Sequence
from typing import NamedTuple

from shimd.container import identity, seccomp
from shimd.container.encoders import ENCODERS, EXECUTING, seccomp_filter
from shimd.container.making import Anchors
from shimd.container.phrases import DIRECTORY, MISSING, Phrases, Unscripted
from shimd.container.plan import Plan
from shimd.linux import executables, forked, processes, script
from shimd.linux import mounts as kernel
from shimd.linux.script import Cell, Label, Program
from shimd.spec.config import Process

STRINGS = 48 * 1024  # bytes for one exec's own strings
CANDIDATES, ARGUMENTS, VARIABLES = 16, 64, 192  # how many fit: places of the program, words, variables
SECONDS = 1.0  # from clone3 to exec, in which the shim hears nobody; then the reference has it, which waits for nobody


class Entrance(NamedTuple):
    """A program for the execs of one shape; beside it the cells, by number, that an exec's own values go into."""

    shape: Process
    program: Program
    beginning: Label
    fds: tuple[int, ...]
    """init's pidfd, stdin, stdout, stderr."""
    texts: tuple[int, ...]
    """The keyring's name, then the `tasks` files (v1)."""
    candidates: tuple[int, ...]
    arguments: tuple[int, ...]
    variables: tuple[int, ...]


def shape_of(process: Process) -> Process:
    """What has to be alike for two to be of one shape."""
    return process._replace(args=(), env=())


def compile_entrance(plan: Plan, process: Process) -> Entrance | None:
    """For execs like the container's own `process`; None if the reference has to do them."""
    joined = processes.CLONE_NEWUSER | processes.CLONE_NEWTIME
    if not script.usable() or plan.chroot or (plan.kinds | plan.child_kinds) & joined or executables.OWN is not None:
        return None
    if process.terminal or process.exec_cpu_affinity or plan.filter.early or identity.early_steps(process):
        return None
    try:
        return _Compiler(plan, Anchors("", "", "")).compile(process)
    except (Unscripted, struct.error, OverflowError):
        return None


class _Compiler(Phrases):
    def compile(self, process: Process) -> Entrance:
        code = self.script
        beginning, init = Label(), code.cell()
        code.here(beginning)
        code.call("setsid")
        code.call("prctl", processes.PR_SET_DUMPABLE, 0)
        stdio = tuple(code.cell() for _ in range(3))
        for number, fd in enumerate(stdio):
            code.call("dup2", fd, number)
        code.call("close_range", 3, processes.LAST_FD, processes.CLOSE_RANGE_CLOEXEC)
        tasks = tuple(code.cell() for tree in self.plan.hierarchies if tree.version == 1)
        for path in tasks:
            fd = code.opened("openat", kernel.AT_FDCWD, path, os.O_WRONLY | os.O_CLOEXEC)
            code.call("write", fd, code.text("0"), 1)
            code.close(fd)
        if self.plan.kinds:
            code.call("setns", init, self.plan.kinds)
        code.call("chdir", code.text("/"))
        self.restore_signals()
        *steps, last = self.plan.process
        for step in steps:
            encode = ENCODERS.get(type(step))
            if encode is None:
                raise Unscripted(step.describe())
            encode(self, step)
        if isinstance(last, seccomp.ConfinedExec):
            seccomp_filter(self, last.load)
        candidates = tuple(code.cell() for _ in range(CANDIDATES))
        arguments, variables = self._exec(candidates)
        fds, texts, places = (_numbers(*cells) for cells in ((init, *stdio), (self.own.keyring, *tasks), candidates))
        program = code.finish(STRINGS)
        return Entrance(shape_of(process), program, beginning, fds, texts, places, arguments, variables)

    def _exec(self, candidates: Sequence[Cell]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As encoders have it for init, with places to fill in."""
        code = self.script
        arguments, words = code.row([], ARGUMENTS)
        variables, entries = code.row([], VARIABLES)
        absent_everywhere = Label()
        code.reach(EXECUTING)
        for path in candidates:
            absent, after = Label(), Label()
            code.skip_if_empty(path, absent_everywhere)
            code.call("execve", path, arguments, variables, expect=(MISSING, absent))
            code.here(absent)
            code.call("faccessat", kernel.AT_FDCWD, path, 0, expect=(MISSING, after))
            code.fail(errno.ENOENT)
            code.here(after)
        code.here(absent_everywhere)
        code.fail(errno.ENOENT)
        return tuple(words[:-1]), tuple(entries[:-1])


def _numbers(*cells: Cell) -> tuple[int, ...]:
    return tuple(cell.number for cell in cells)


class Doorway:
    """A shim's: it makes one process after another by an entrance, in the container of this cgroup."""

    def __init__(self, entrance: Entrance, plan: Plan, cgroup: str) -> None:
        self._entrance = entrance
        self._run = forked.SharedRun(entrance.program, entrance.beginning)
        trees = plan.hierarchies
        self._tasks = [f"{tree.mount}{cgroup}/tasks" for tree in trees if tree.version == 1]
        self._cgroup = [tree.mount + cgroup for tree in trees if tree.version == 2]

    def enter(self, init: int, process: Process, stdio: Sequence[int], name: str) -> tuple[int, int] | None:
        """(pid, pidfd) of a process that runs; None if it is for the reference. OSError if there can be none."""
        if shape_of(process) != self._entrance.shape or not self._fill(init, process, stdio, name):
            return None
        try:
            pid, pidfd, running = self._born()
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):  # a cgroup that takes no process: entering._born
                return None
            raise
        if running and self._run.state == EXECUTING:
            return pid, pidfd
        if not running:  # and it may write there still: what hangs in the kernel does not die at once
            self._run = forked.SharedRun(self._entrance.program, self._entrance.beginning)
        with contextlib.suppress(ProcessLookupError):
            processes.pidfd_send_signal(pidfd, 9)
        os.close(pidfd)
        return None

    def _fill(self, init: int, process: Process, stdio: Sequence[int], name: str) -> bool:
        """Put what is this exec's own into the cells; False if it does not fit."""
        environment = dict(entry.split("=", 1) for entry in process.env if "=" in entry)
        variables = [f"{key}={value}" for key, value in environment.items()]
        places = identity.candidates(process.args[0], environment) if process.args[0] else []
        texts = [f"_ses.{name}", *self._tasks, *places, *process.args, *variables]
        encoded = os.fsencode("\0".join([*texts, ""]))
        fits = len(places) <= CANDIDATES and len(process.args) <= ARGUMENTS and len(variables) <= VARIABLES
        if not fits or not places or encoded.count(b"\0") != len(texts) or len(encoded) > STRINGS:
            return False
        there = self._entrance
        addresses = iter(forked.fill(there.program, encoded))
        cells = there.program.cells
        for numbers, count in (
            (there.texts, 1 + len(self._tasks)),
            (there.candidates, len(places)),
            (there.arguments, len(process.args)),
            (there.variables, len(variables)),
        ):
            for number in numbers[:count]:
                cells[number] = next(addresses)
            if count < len(numbers):
                cells[numbers[count]] = 0  # ends the row
        for number, fd in zip(there.fds, (init, *stdio), strict=True):
            cells[number] = fd
        return True

    def _born(self) -> tuple[int, int, bool]:
        """pid, pidfd, and whether it came to its exec or end in time."""
        cgroup = os.open(self._cgroup[0], DIRECTORY) if self._cgroup else -1
        reading, writing = os.pipe2(os.O_CLOEXEC)  # its other end closes as the child execs or ends
        try:
            pid, pidfd = self._run.bear(cgroup)
            os.close(writing)
            writing = -1
            poll = select.poll()
            poll.register(reading, 0)
            return pid, pidfd, bool(poll.poll(SECONDS * 1000))
        finally:
            for fd in (reading, writing, cgroup):
                if fd >= 0:
                    os.close(fd)
