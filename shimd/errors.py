"""What goes wrong on the ground floor, as one value that travels.

    Trouble         deed, subject, cause, hint, errno, code: crosses every process border as it is
    RuntimeTrouble  the exception that carries one

A process that fails after fork has no traceback worth showing: it sends a Trouble to whoever waits for it, and
that one adds nothing to it. `code` is what a command line returns for it: 125 the runtime's own failure, 126 the
program cannot be executed, 127 it was not found (docker's and the shell's convention).
"""

from __future__ import annotations

import os
from typing import NamedTuple

RUNTIME_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Trouble(NamedTuple):
    """A failure in one line: "DEED SUBJECT: CAUSE (HINT)"."""

    deed: str
    subject: str
    cause: str
    hint: str = ""
    errno: int = 0
    code: int = RUNTIME_FAILED

    def __str__(self) -> str:
        line = f"{self.deed} {self.subject}: {self.cause}" if self.subject else f"{self.deed}: {self.cause}"
        return f"{line} ({self.hint})" if self.hint else line


class RuntimeTrouble(Exception):
    """An exception that carries a Trouble."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


def from_oserror(deed: str, subject: str, error: OSError, hint: str = "", code: int = RUNTIME_FAILED) -> Trouble:
    """The Trouble for a failed system call: the cause is the errno's text."""
    number = error.errno or 0
    cause = os.strerror(number).lower() if number else str(error)
    return Trouble(deed, subject, cause, hint, number, code)
