"""The accelerator: a whole start as a script (shimd.linux.script), so that nobody needs an interpreter for it.

Three parts share their cells: `prepare` runs in the shim (path socket, outside steps, root, pipes), `init` in the
child that shares the shim's memory until its execve, `after` in the shim again (it waits for that execve). The
reference is `launch` with the operations' own execute(): what is here makes the same calls in the same order, and tests
compare the two. It is an accelerator and no second runtime, by three rules:

- An operation that is not in the table below, or a machine without script.c, means no script: the reference does it.
- Whatever a script refuses is undone and done again by the reference, and its words are what the user reads. So a
  script needs no words of its own, and uses nothing up that the reference would miss.
- It is never asked to: joined namespaces, user and time namespaces, OOM scores (the kernel sets the score of all
  processes that share memory), memory limits so small that the set-up itself may be killed for them (the kernel kills
  all that share memory, which would be the shim).

The walk: docs/walks/run.md. The measurement: docs/decisions/0009-scripts.md.
"""

from __future__ import annotations

import errno
import os
import struct
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET
from collections.abc import Sequence
from typing import NamedTuple

from shimd.container import launch
from shimd.container.encoders import ENCODERS, OUTSIDE
from shimd.container.making import Anchors, Operation, OutsideOperation
from shimd.container.phrases import Phrases, Unscripted
from shimd.container.plan import Plan
from shimd.linux import mounts as kernel
from shimd.linux import processes, script
from shimd.linux.script import Cell, Label, Program

STRINGS = 48 * 1024  # for one container's own strings: names, cgroups, environment
BACKLOG = 4
F_SETFL = 4


class Parts(NamedTuple):
    """Where a program is entered."""

    prepare: Label
    init: Label
    after: Label


class Made(NamedTuple):
    """Cells that a run fills: fds, 0 while there is none."""

    listener: Cell
    cgroup: Cell
    stdin: Cell
    stdout: Cell
    stderr: Cell
    passing: tuple[Cell, ...]
    """Open while the container is made; once `let_go` is set, `after` has closed them."""
    let_go: Cell
    stamps: tuple[tuple[str, Cell], ...]


class Scripted(NamedTuple):
    """A program for all containers of a plan."""

    program: Program
    parts: Parts
    made: Made
    clone_flags: int
    outside: tuple[OutsideOperation, ...]
    cgroup_paths: tuple[tuple[str, str], ...]
    """What precedes and follows the container's cgroup in each path."""
    binds: tuple[tuple[str, int], ...]
    """What is bound, with open_tree's flags."""
    environment: dict[str, int]
    spare: tuple[int, ...]
    """Places in the array of the environment: by name, and empty ones."""


def compile_script(plan: Plan, anchors: Anchors) -> Scripted | None:
    """The plan as a script, or None if the reference has to do it."""
    wanted = processes.CLONE_NEWNS | processes.CLONE_NEWPID
    if not script.usable() or plan.kinds & processes.CLONE_NEWUSER or plan.clone_flags & wanted != wanted:
        return None
    if plan.terminal or plan.log.form == "none":  # its stdio is not ours: it comes from inside, or ahead of the Spawn
        return None
    try:
        return Compiler(plan, anchors).compile()
    except (Unscripted, struct.error, OverflowError):  # the two: more cells, or a larger number, than the fields hold
        return None


class Compiler(Phrases):
    """One plan on its way to a script."""

    def compile(self) -> Scripted:
        code = self.script
        parts = Parts(Label(), Label(), Label())
        code.here(parts.prepare)
        self._listen()
        self._outside()
        self.stamp("cgroup")
        self._root()
        self._pipes()
        code.end()
        code.here(parts.init)
        self._init()
        code.end()
        code.here(parts.after)
        self._after()
        passing = (*self.tasks, self.cgroup, self.root, *self.trees, *self.stdio, *self.done)
        return Scripted(
            code.finish(STRINGS),
            parts,
            Made(self.listener, self.cgroup, *self.kept, passing, self.let_go, tuple(self.stamps)),
            self.plan.clone_flags,
            self.plan.outside,
            tuple(self.cgroup_paths),
            self.binds,
            self.environment,
            self.spare,
        )

    # in the shim, before

    def _listen(self) -> None:
        """The path socket first, then the question whether the supervisor still lives (server.delivery)."""
        code = self.script
        kind = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK
        listener = code.opened("socket", AF_UNIX, kind, 0)
        code.call("bind", listener, self.own.address, self.own.address_bytes)
        code.call("listen", listener, BACKLOG)
        code.copy(listener, self.listener)  # from here on the path is ours to unlink
        alone = code.cell()
        code.store(self.polled, self.own.line)
        code.store(code.offset(self.polled, 4), 0)  # POLLHUP is told unasked
        code.call("poll", self.polled, 1, 0, out=alone)
        with code.unless_empty(alone):
            code.fail(errno.ESRCH)

    def _outside(self) -> None:
        for number, step in enumerate(self.plan.outside, 1):
            self.script.step = number
            encode = OUTSIDE.get(type(step))
            if encode is None:
                raise Unscripted(step.describe())
            encode(self, step)
        self.script.step = len(self.plan.outside) + 1

    def _root(self) -> None:
        """As `root.overlay` and `root.bind`, but detached, and before the container's mount namespace is there."""
        code = self.script
        done = Label()
        with code.unless_empty(self.own.overlay):
            configuration = code.opened("fsopen", code.text("overlay"), kernel.FSOPEN_CLOEXEC)
            as_string, as_fd = kernel.FSCONFIG_SET_STRING, kernel.FSCONFIG_SET_FD
            code.call("fsconfig", configuration, as_string, code.text("source"), code.text("overlay"), 0)
            name, last = code.text("lowerdir+"), Label()
            for path, fd in self.own.layers:
                code.skip_if_empty(path, last)
                next_layer = Label()
                with code.unless_empty(fd):
                    code.call("fsconfig", configuration, as_fd, name, 0, fd)
                    code.jump(next_layer)
                code.call("fsconfig", configuration, as_string, name, path, 0)
                code.here(next_layer)
            code.here(last)
            with code.unless_empty(self.own.upper):
                code.call("fsconfig", configuration, as_string, code.text("upperdir"), self.own.upper, 0)
                code.call("fsconfig", configuration, as_string, code.text("workdir"), self.own.work, 0)
            code.call("fsconfig", configuration, kernel.FSCONFIG_CMD_CREATE, 0, 0, 0)
            code.call("fsmount", configuration, kernel.FSMOUNT_CLOEXEC, 0, out=self.root)
            code.close(configuration)
            code.jump(done)
        code.call("open_tree", *self.own.root, out=self.root)
        self.set_attributes(self.root, propagation=kernel.MS_PRIVATE, recursive=True)
        code.here(done)
        for source, tree in zip(self.own.binds, self.trees, strict=True):
            code.call("open_tree", *source, out=tree)

    def _pipes(self) -> None:
        code = self.script
        ends = [(self.kept[1], self.stdio[1]), (self.kept[2], self.stdio[2]), self.done]
        if self.plan.stdin:
            ends.append((self.stdio[0], self.kept[0]))
        for read, write in ends:
            code.call("pipe2", self.pair, os.O_CLOEXEC)
            code.load(self.pair, read)
            code.load(self.pair_second, write)

    # in the child

    def _init(self) -> None:
        self._begin()
        for phase, steps in (("namespaces", self.plan.birth), ("mounts", self.plan.rooting)):
            self._encode(steps)
            self.stamp(phase)
        self.restore_signals()
        self._encode(self.plan.process)

    def _begin(self) -> None:
        code = self.script
        code.call("prctl", processes.PR_SET_PDEATHSIG, 9)
        code.call("setsid")
        code.call("umask", 0)
        code.call("prctl", processes.PR_SET_DUMPABLE, 0)
        for number, fd in enumerate(self.stdio):
            code.call("dup2", fd, number)
        code.call("close_range", 3, processes.LAST_FD, processes.CLOSE_RANGE_CLOEXEC)

    # in the shim, after

    def _after(self) -> None:
        """Let go of what is init's, and wait until its end of the pipe closes."""
        code = self.script
        reading, writing = self.done
        for fd in (*self.tasks, self.cgroup, self.root, *self.trees, *self.stdio, writing):
            with code.unless_empty(fd):
                code.close(fd)  # the cell stays as it is: the child reads it
        code.copy(1, self.let_go)
        code.store(self.polled, reading)
        ready = code.cell()
        code.call("poll", self.polled, 1, int(launch.SET_UP_SECONDS * 1000), out=ready)
        code.close(reading)
        late = Label()
        code.skip_if_empty(ready, late)
        self.stamp("exec")
        for fd in (self.own.line, *self.kept):
            with code.unless_empty(fd):
                code.call("fcntl", fd, F_SETFL, os.O_NONBLOCK)
        code.call("prctl", processes.PR_SET_NAME, self.own.name)
        code.end()
        code.here(late)
        code.fail(errno.ETIME)

    def stamp(self, phase: str) -> None:
        cell = self.script.cell()
        self.script.stamp(cell)
        self.stamps.append((phase, cell))

    def _encode(self, steps: Sequence[Operation]) -> None:
        for step in steps:
            encode = ENCODERS.get(type(step))
            if encode is None:
                raise Unscripted(step.describe())
            encode(self, step)
            self.script.step += 1
