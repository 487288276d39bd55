"""A bundle's plan as a script, for a process that bears one container and goes (shimd/command/front).

`scripting` makes one script for all containers of a template, run by their shims. Here each container has its own: the
front asks for it, runs `prepare` itself and `init` in the child, which then waits for `start`, as `waiting.Await` says.
What a container has of its own is text in it, but for the fds that the front makes (`Held`).

The calls are those of the reference, in its order; the rules of `scripting` hold. After init was told to wait, nobody
can begin again: what it may have to say then comes along as `Words`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from shimd.container import cgroups, waiting
from shimd.container.making import Operation
from shimd.container.phrases import Unscripted
from shimd.container.plan import Plan
from shimd.container.standalone_encoders import ENCODERS, OUTSIDE
from shimd.container.standalone_phrases import Held, StandalonePhrases, Words
from shimd.linux import processes, script
from shimd.linux.script import Cell, Image, Label


class Standing(NamedTuple):
    """A script for one container."""

    code: script.Script
    prepare: Label
    init: Label
    clone_flags: int
    cgroup: Cell
    """The fd of the v2 cgroup to be born into; 0 where there is none."""
    held: Held
    made: tuple[tuple[int, str], ...]
    """Directories that `prepare` makes, each with its step: what has to go if it is all for nothing."""
    words: tuple[Words, ...]

    def image(self, base: int) -> Image:
        return self.code.image(base)


class Compiler(StandalonePhrases):
    """One plan on its way to a script."""

    def compile(self) -> Standing:
        code = self.script
        prepare, init = Label(), Label()
        code.here(prepare)
        for step in self.plan.outside:
            code.step += 1
            encode = OUTSIDE.get(type(step))
            if encode is None:
                raise Unscripted(step.describe())
            if isinstance(step, cgroups.TakeCgroup):
                self.made.append((code.step, step.hierarchy.mount + self.cgroup_below))
            encode(self, step)
        code.step += 1
        code.end()
        code.here(init)
        self._begin()
        self._encode(self.plan.birth)
        self._encode(self.plan.rooting)
        self.restore_signals()
        self._encode(self.plan.process)
        return Standing(
            code, prepare, init, self.plan.clone_flags, self.cgroup, self.held, tuple(self.made), tuple(self.words)
        )

    def _begin(self) -> None:
        """As `launch._run_init`: a lock must not outlive its holder, and the front's death has to be noticed."""
        code = self.script
        code.close(self.held.lock, self.held.ready_in)
        code.call("setsid")
        code.call("umask", 0)
        code.call("prctl", processes.PR_SET_DUMPABLE, 0)
        code.call("close_range", 3, processes.LAST_FD, processes.CLOSE_RANGE_CLOEXEC)

    def _encode(self, steps: Sequence[Operation]) -> None:
        for step in steps:
            self.script.step += 1
            if isinstance(step, waiting.Await):
                self._await(step)
                continue
            encode = ENCODERS.get(type(step))
            if encode is None:
                raise Unscripted(step.describe())
            encode(self, step)

    def _await(self, step: waiting.Await) -> None:
        encode = ENCODERS.get(type(step.run))
        if step.hooks or encode is None:
            raise Unscripted(step.describe())
        code = self.script
        code.call("write", self.held.ready_out, code.text("1"), 1)
        code.close(self.held.ready_out)
        again, go_on = Label(), Label()
        code.here(again)
        code.call("read", self.held.start, code.room(8), 1, expect=((errno.EINTR,), again))
        code.here(go_on)
        encode(self, step.run)


def compile_standalone(plan: Plan, id: str, cgroup: str, root: str) -> Standing | None:
    """The plan of a bundle (`bundle.compile`) as a script, or None if the reference has to do it."""
    wanted = processes.CLONE_NEWNS | processes.CLONE_NEWPID
    if plan.kinds & processes.CLONE_NEWUSER or plan.clone_flags & wanted != wanted or plan.uid_map or plan.chroot:
        return None
    try:
        return Compiler(plan, id, cgroup, root).compile()
    except (Unscripted, struct.error, OverflowError, OSError):
        return None
