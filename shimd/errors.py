"""What goes wrong on the ground floor, as one value that travels.

    Trouble         deed, subject, cause, hint, errno, code: crosses every process border as it is
    RuntimeTrouble  the exception that carries one

A process that fails after fork has no traceback worth showing: it sends a Trouble to whoever waits for it, and
that one adds nothing to it. `code` is what a command line returns for it: 125 the runtime's own failure, 126 the
program cannot be executed, 127 it was not found (docker's and the shell's convention).
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Trouble(tuple[str, str, str, str, int, int]):
    """A failure in one line: "DEED SUBJECT: CAUSE (HINT)".

    A named tuple made by hand: `typing` and `collections` cost a short command more than the rest of its imports.
    """

    __slots__ = ()
    _fields = ("deed", "subject", "cause", "hint", "errno", "code")

    def __new__(
        cls, deed: str, subject: str, cause: str, hint: str = "", errno: int = 0, code: int = RUNTIME_FAILED
    ) -> "Trouble":
        return tuple.__new__(cls, (deed, subject, cause, hint, errno, code))

    @property
    def deed(self) -> str:
        return self[0]

    @property
    def subject(self) -> str:
        return self[1]

    @property
    def cause(self) -> str:
        return self[2]

    @property
    def hint(self) -> str:
        return self[3]

    @property
    def errno(self) -> int:
        return self[4]

    @property
    def code(self) -> int:
        return self[5]

    def _replace(self, **changes: str | int) -> "Trouble":
        fields: dict[str, Any] = dict(zip(self._fields, self, strict=True))
        return Trouble(**{**fields, **changes})

    def __repr__(self) -> str:
        return f"Trouble{tuple(self)!r}"

    def __getnewargs__(self) -> tuple[str, str, str, str, int, int]:
        return (*self,)  # copy and pickle make it by __new__

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
