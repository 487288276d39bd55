"""A script that a forked child runs: its strings, its birth, and how far it came, which its parent sees.

run = SharedRun(program, beginning)
addresses = fill(program, b"one\0two\0")      for cells of the program
pid, pidfd = run.bear()
... once it has exec'd or ended:               run.state
"""

from __future__ import annotations

import array
import ctypes
import mmap
import os

from shimd.linux.processes import CLONE_INTO_CGROUP, CLONE_PIDFD, SIGCHLD
from shimd.linux.script import Label, Program, library

_STATE = 3  # in struct run of script.c


def fill(program: Program, strings: bytes) -> list[int]:
    """Put NUL-ended strings into the program's room for them; their addresses."""
    begin = program.strings
    program.data[begin : begin + len(strings)] = array.array("B", strings)
    at = program.data.buffer_info()[0] + begin
    addresses = []
    for text in strings.split(b"\0")[:-1]:
        addresses.append(at)
        at += len(text) + 1
    return addresses


class SharedRun:
    """One run at a time. The struct lies in memory that child and parent share; all else is the child's copy."""

    def __init__(self, program: Program, entry: Label) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self._entered = program.entered(entry)
        self._address = ctypes.addressof(ctypes.c_longlong.from_buffer(self._words))
        self._clone = array.array("Q", [0] * 11)  # struct clone_args
        self._pidfd = array.array("i", [-1])

    @property
    def state(self) -> int:
        """What REACH said last; negative after a failure."""
        return self._words[_STATE]

    def bear(self, cgroup: int = -1) -> tuple[int, int]:
        """(pid, pidfd) of a child that runs the script and ends in its execve, or with 125.

        `cgroup` (v2) is an fd on what it is born into. OSError: there can be no child.
        """
        for place, value in enumerate(self._entered):
            self._words[place] = value
        self._clone[0] = CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup >= 0 else 0)
        self._clone[1] = self._pidfd.buffer_info()[0]
        self._clone[4] = SIGCHLD
        self._clone[10] = max(cgroup, 0)
        size = self._clone.itemsize * len(self._clone)
        pid: int = library().script_bear(self._clone.buffer_info()[0], size, self._address)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid), "a new process")
        return pid, self._pidfd[0]
