"""What the encoders of a bundle's operations share: the one container that the script is for, and who bears it."""

from __future__ import annotations

from typing import NamedTuple

from shimd.container.making import Anchors
from shimd.container.phrases import Own, Phrases, Source
from shimd.container.plan import Plan
from shimd.errors import RUNTIME_FAILED
from shimd.linux.script import Cell


class Held(NamedTuple):
    """Cells that the front fills, side by side: its lock, both ends of the pipe for init's word, and the fifos."""

    lock: Cell
    ready_in: Cell
    ready_out: Cell
    start: Cell
    outcome: Cell


class Words(NamedTuple):
    """What init says if it fails in this step: `cause` "" stands for the errno's own words."""

    step: int
    head: str
    cause: str
    code: int


class StandalonePhrases(Phrases):
    """A script in the making, for one container."""

    def __init__(self, plan: Plan, id: str, cgroup: str, root: str) -> None:
        self.id = id
        self.cgroup_below = cgroup
        super().__init__(plan, Anchors(root, root, ""))
        one = self.script.cell
        self.held = Held(one(), one(), one(), one(), one())
        self.home = ""
        """HOME, where the environment has none."""
        self.words: list[Words] = []
        self.made: list[tuple[int, str]] = []
        self.namespaces: list[tuple[int, Cell]] = []

    def _take_cells(self, binds: int) -> Own:
        """All is known: no cell is to be filled later."""
        code = self.script
        none = code.constant(0)
        keyring = code.text(f"_ses.{self.id}")
        nowhere = Source(none, none, none)
        return Own(none, none, none, none, keyring, none, none, none, none, none, nowhere, (), (), ())

    def cgroup_path(self, before: str, after: str = "") -> Cell:
        return self.script.text(before + self.cgroup_below + after)

    def say(self, head: str, cause: str = "", code: int = RUNTIME_FAILED) -> None:
        """What follows is a step of its own; init says this if it fails."""
        self.script.step += 1
        self.words.append(Words(self.script.step, head, cause, code))
