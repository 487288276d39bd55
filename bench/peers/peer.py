"""What an engine must do to be measured, and the site on which it does it."""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import image
from bench.process import BenchError, capture, chunks, crowd, find_tool


@dataclass(frozen=True, slots=True)
class Site:
    """What all peers share. `parallel` is the bound on commands (or API calls) at once, for every peer."""

    work: Path
    rootfs: Path
    archive: Path
    cgroup_parent: str
    parallel: int
    host_mounts: int  # fd of the host's mount namespace
    asyncrt: str | None
    env: Mapping[str, str] = field(default_factory=dict)


def number(text: str) -> str:
    """The first version number in a text, or the text's first line."""
    found = re.search(r"\d+\.\d+[\w.+~-]*", text)
    return found.group() if found else text.strip().split("\n", 1)[0]


class Peer(ABC):
    """An engine. It does what it is told and raises BenchError; it neither measures nor verifies.

    peer.missing() is None -> peer.up() -> peer.start(300, deadline) -> peer.remove(deadline)
        -> peer.complete(100, deadline) -> peer.down()

    `down` is safe to call at any time, also after a failed `up`. Deadlines are time.monotonic() values.
    """

    name: str
    tools: tuple[str, ...]
    driven: str  # how, in words, for the report

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.work / self.name.replace(" ", "-")
        self.log = self.folder / "log"
        self.cgroup = f"{site.cgroup_parent}/{self.name.replace(' ', '-')}"
        self.live: list[str] = []
        self.loaded = False  # whether the image is in the engine's store
        self._turn = 0

    def missing(self) -> str | None:
        """Why this peer cannot take part, or None."""
        absent = [tool for tool in self.tools if find_tool(tool) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    def version(self) -> str:
        """The number in what `--version` prints, e.g. "1.1.5+ds1"."""
        return number(capture([self.tool(self.tools[0]), "--version"], env=self.site.env))

    def tool(self, name: str) -> str:
        """The path of one of the peer's programs. Raises BenchError if it is gone."""
        path = find_tool(name)
        if path is None:
            raise BenchError(f"find {name}: not installed")
        return path

    def foreground(self, args: list[str], *flags: str) -> tuple[list[str], dict[str, str]]:
        """The command line, and its environment, of a container in the foreground that is removed behind it."""
        raise BenchError(f"run in the foreground by {self.name}: not taught")

    def entering(self, name: str, args: list[str]) -> tuple[list[str], dict[str, str]]:
        """The same of an exec with its stdin, in a container that runs."""
        raise BenchError(f"exec by {self.name}: not taught")

    def pull(self, name: str, deadline: float) -> None:
        """Fetch and unpack an image from a registry on loopback, without TLS."""
        raise BenchError(f"pull by {self.name}: not taught")

    def true_in(self, name: str, deadline: float) -> None:
        """Run `true` in a container of a pulled image; the exit code must be 0."""
        raise BenchError(f"run a pulled image by {self.name}: not taught")

    def names(self, count: int) -> list[str]:
        """`count` fresh container names."""
        self._turn += 1
        return [f"b{self._turn}-{i}" for i in range(count)]

    def up(self) -> None:
        """Start the daemon, if any, and see to it that the image is there."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def start(self, count: int, deadline: float) -> None:
        """Start `count` detached containers of `sleep 600`; every name asked for is in `live` at once."""

    @abstractmethod
    def remove(self, deadline: float) -> None:
        """Kill and remove all in `live`."""

    @abstractmethod
    def complete(self, count: int, deadline: float) -> None:
        """Run `true` in `count` containers, each removed at its end; every exit code must be 0."""

    def down(self) -> None:
        """End the daemon, if any."""
        return None

    def forget(self) -> None:
        """After a failed turn, with every process ended: drop all state for a fresh next turn."""
        self.live, self.loaded = [], False
        shutil.rmtree(self.folder, ignore_errors=True)

    def shims(self) -> list[int] | None:
        """The helpers' pids as the engine itself tells them, to check the census by, or None."""
        return None


class OneByOne(Peer):
    """An engine with a command per container, whose removal takes many names at once."""

    detached: tuple[str, ...] = ("-d",)

    def start(self, count: int, deadline: float) -> None:
        self.live = self.names(count)
        crowd(self.live, lambda name: self._run(self.detached, name, image.SLEEP, deadline), self.site.parallel)

    def remove(self, deadline: float) -> None:
        crowd(chunks(self.live, self.site.parallel), lambda names: self._rm(names, deadline), self.site.parallel)
        self.live = []

    def complete(self, count: int, deadline: float) -> None:
        crowd(
            self.names(count),
            lambda name: self._run(("--rm",), name, image.TRUE, deadline),
            self.site.parallel,
        )

    @abstractmethod
    def _run(self, mode: Sequence[str], name: str, args: list[str], deadline: float) -> None:
        """Run `args` in a container called `name`, with the flags `mode`."""

    @abstractmethod
    def _rm(self, names: list[str], deadline: float) -> None:
        """Kill and remove these."""
