"""What one start carries from step to step.

Everything that differs between two containers of one plan is in here; the plan itself is shared and never written.
"""

from __future__ import annotations

import os
import time
from _socket import socket
from typing import Protocol

from shimd.wire.messages import RootMount


class Operation(Protocol):
    """One step of a plan: a value that says what it does and does it. OSError is its only failure."""

    def describe(self) -> tuple[str, str]:
        """(deed, subject), as an error names them: ("mount", "proc on /proc")."""
        ...

    def execute(self, making: Making) -> None: ...


class OutsideOperation(Operation, Protocol):
    """A step that the shim does before the container exists, and takes back when it ended."""

    def undo(self, making: Making) -> None:
        """Take it back; safe to repeat, and fine if it never happened."""
        ...


class Anchors:
    """Fixed places that the zygote prepared in its own mount namespace, the same for every container.

    `root` is an empty directory on which each container mounts its root file system (in its own copy of the
    namespace); `lower` one for a layer on kernels whose overlay takes no detached mounts; `empty` an empty
    read-only tmpfs that masks directories. `private`: no mount of this namespace propagates.
    """

    __slots__ = ("empty", "lower", "private", "root")

    def __init__(self, root: str, lower: str, empty: str, private: bool = False) -> None:
        self.root = root
        self.lower = lower
        self.empty = empty
        self.private = private


class Making:
    """One container in the making."""

    __slots__ = (
        "anchors",
        "cgroup",
        "cgroup_fd",
        "cgroups_below",
        "clock_shift",
        "console_fd",
        "env",
        "hostname",
        "id",
        "init_clock_shift",
        "kept_fds",
        "namespace_fds",
        "neighbours",
        "parents_fds",
        "root",
        "root_fd",
        "start_fds",
        "state",
        "sync",
        "task_fds",
        "timeline",
        "trees",
    )

    def __init__(
        self,
        id: str,
        anchors: Anchors,
        root: list[RootMount],
        cgroup: str,
        hostname: str,
        env: list[str],
        trees: dict[str, int],
    ) -> None:
        self.id = id
        self.anchors = anchors
        self.root = root
        self.cgroup = cgroup
        self.hostname = hostname
        self.env = env
        self.trees = trees
        """Detached mount trees by the source path that they stand for; who takes one pops it."""
        self.root_fd = -1
        """The container's root directory, O_PATH, from the moment it is mounted."""
        self.cgroup_fd = -1
        """v2: the cgroup that init is born into."""
        self.task_fds: list[int] = []
        """v1: the `tasks` files that init enters by."""
        self.neighbours: list[int] = []
        """Who lived in the cgroup before, where somebody else chose it."""
        self.namespace_fds: dict[int, int] = {}
        """Namespaces to join: fds by CLONE_NEW* flag."""
        self.timeline: list[tuple[str, int]] = []
        self.clock_shift = 0
        """By how many ns this process's CLOCK_MONOTONIC is ahead of the machine's (time_namespaces(7))."""
        self.init_clock_shift = 0
        """And init's."""
        self.sync: socket | None = None
        """init: its line to whoever bears it."""
        self.parents_fds: tuple[int, ...] = ()
        """What init closes at birth: a lock must not outlive the one who took it."""
        self.state: dict[str, object] = {}
        """The state that hooks read, as a document; who runs one fills in status and pid."""
        self.start_fds = (-1, -1)
        """Without a shim: the fifos `start` and `outcome` (waiting.Await)."""
        self.console_fd = -1
        """A stream socket that takes the console's master."""
        self.kept_fds: tuple[int, ...] = ()
        """What the program inherits beside 0, 1 and 2."""
        self.cgroups_below: dict[str, str] = {}
        """By a hierarchy's mount: the path below the container's cgroup that an exec enters."""

    def stamp(self, phase: str) -> None:
        """`phase` ends now."""
        self.timeline.append((phase, time.monotonic_ns() - self.clock_shift))

    def close(self) -> None:
        """Close what the steps left open; the shim calls it once init is born, to hold nothing that it needs not."""
        fds = [*self.task_fds, *self.namespace_fds.values(), *self.trees.values(), self.cgroup_fd, self.root_fd]
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        self.task_fds, self.namespace_fds, self.trees = [], {}, {}
        self.cgroup_fd = self.root_fd = -1
