"""What can be wrong with a document.

ValueError
  SpecError    it says something the runtime-spec forbids, or names what this runtime does not have

A Finding is the same news before anyone decided what to do: a rule gives findings, a fatal one is raised as a
SpecError, the others are notices for the user ("logged as a warning", runtime.md).
"""

from typing import NamedTuple


class Finding(NamedTuple):
    """What a rule found at a JSON path; ``fatal`` is False for a notice: the container can run."""

    path: str
    problem: str
    hint: str = ""
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" + (f" ({self.hint})" if self.hint else "")


class SpecError(ValueError):
    """A document that cannot be used. ``str()`` reads ``PATH: PROBLEM (HINT)``.

    ``path`` is a JSON path from ``$``, as in ``$.mounts[3].destination`` or
    ``$.linux.sysctl["net.ipv4.ip_forward"]``; ``hint`` is empty where nothing can be advised.
    """

    def __init__(self, path: str, problem: str, hint: str = "") -> None:
        super().__init__(path, problem, hint)
        self.path = path
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return str(Finding(self.path, self.problem, self.hint))
