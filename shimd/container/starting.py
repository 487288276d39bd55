"""A shim's first moments without an interpreter: what start.c is told, and what it tells (shimd.container.scripting).

zygote:  starter = Starter(shims); starter.add(key, scripted)
shim:    outcome = starter.start(spawns)
         HAPPENED   starter.birth() runs since a while, and there is something to do
         OVER       there is no supervisor
         REFUSED    nothing of it is left; starter.packet() has the Spawn, for the reference or to be sent back
"""

from __future__ import annotations

import array
import os
from collections.abc import Sequence
from typing import NamedTuple

from shimd.container import launch, root
from shimd.container.making import Anchors, Making
from shimd.container.phrases import LAYERS
from shimd.container.scripting import Scripted
from shimd.linux import mounts, script
from shimd.wire.codec import decode
from shimd.wire.messages import MAX_PACKET, Message, Spawn

HAPPENED, OVER, REFUSED = 0, 1, 2
_UNKNOWN, _BROKEN = 2, 3  # of start.c: it touched nothing; it got somewhere

# Places in struct start and struct shim, in words of 64 bits.
_PREPARE, _INIT, _AFTER = 2, 9, 16
_STATE, _STEP = 3, 5  # in a struct run
_PID, _PIDFD, _STARTED, _RECEIVED = 46, 47, 48, 49
_CHOSEN, _PACKET_BYTES, _FD_COUNT = 7, 8, 9
_MANY = 256
_FAILED = -1


class Birth(NamedTuple):
    """A container that runs, and what its shim holds of it, as non-blocking fds; stdin is -1 where there is none."""

    pid: int
    pidfd: int
    listener: int
    stdin: int
    stdout: int
    stderr: int
    started_ns: int
    timeline: list[tuple[str, int]]


class Start:
    """struct start of start.c for one template."""

    def __init__(self, key: str, scripted: Scripted) -> None:
        self.scripted = scripted
        self._kept: list[array.array[int]] = []
        program, parts, made = scripted.program, scripted.parts, scripted.made
        data = program.data.buffer_info()
        paths = [[*self._text(before), *self._text(after)] for before, after in scripted.cgroup_paths]
        binds = [[*self._text(path), flags] for path, flags in scripted.binds]
        names = [[*self._text(name), cell] for name, cell in scripted.environment.items()]
        cells = [cell.number for cell in (made.cgroup, made.listener, made.stdin, made.stdout, made.stderr)]
        self.words = array.array(
            "q",
            [
                *self._text(key),
                *program.entered(parts.prepare),
                *program.entered(parts.init),
                *program.entered(parts.after),
                scripted.clone_flags,
                data[0] + program.strings,
                data[0] + data[1],
                *self._rows(paths),
                *self._rows(binds),
                *self._rows(names),
                scripted.spare[0],
                len(scripted.spare),
                *cells,
                *[cell.number for _, cell in made.stamps],
                mounts.overlay_appends(),
                root.fd_layers(),
                LAYERS,
                *[0] * 4,
            ],
        )
        assert len(self.words) == _RECEIVED + 1

    @property
    def address(self) -> int:
        return self.words.buffer_info()[0]

    def _text(self, text: str) -> tuple[int, int]:
        """A struct text."""
        encoded = os.fsencode(text)
        kept = array.array("B", encoded + b"\0")
        self._kept.append(kept)
        return kept.buffer_info()[0], len(encoded)

    def _rows(self, rows: Sequence[Sequence[int]]) -> tuple[int, int]:
        """An array of structs: address and count."""
        kept = array.array("q", [word for row in rows for word in row] or [0])
        self._kept.append(kept)
        return kept.buffer_info()[0], len(rows)

    def birth(self, sent_ns: int) -> Birth:
        made, words, cells = self.scripted.made, self.words, self.scripted.program.cells
        timeline = [("queue", sent_ns), ("zygote", words[_RECEIVED])]
        for phase, cell in made.stamps:
            timeline.append((phase, cells[cell.number]))
        return Birth(
            words[_PID],
            words[_PIDFD],
            cells[made.listener.number],
            cells[made.stdin.number] or -1,
            cells[made.stdout.number],
            cells[made.stderr.number],
            words[_STARTED],
            timeline,
        )

    def undo(self, spawn: Spawn, path: str) -> None:
        """Close and remove what a run made before it was refused."""
        cells, made, words = self.scripted.program.cells, self.scripted.made, self.words
        if words[_PID] > 0:
            launch.bury(words[_PIDFD])
            os.waitpid(words[_PID], os.WNOHANG)
            os.close(words[_PIDFD])
        if cells[made.listener.number]:
            os.unlink(path)
        passing = () if cells[made.let_go.number] else made.passing
        for cell in (made.listener, made.stdin, made.stdout, made.stderr, *passing):
            if cells[cell.number]:
                os.close(cells[cell.number])
        done = self.scripted.outside
        if words[_PREPARE + _STATE] == _FAILED:  # steps are numbered from 1; 0 is the path socket's
            done = done[: max(0, words[_PREPARE + _STEP] - 1)]
        launch.undo(done, Making(spawn.id, Anchors("", "", ""), [], spawn.cgroup, "", [], {}))


class Starter:
    """struct shim of start.c: the templates of a zygote, and in a shim what became of its Spawn.

    `shims` is an fd on the directory of the path sockets.
    """

    def __init__(self, shims: int) -> None:
        self.starts: dict[str, Start] = {}
        self._packet = array.array("B", bytes(MAX_PACKET))
        self._place = array.array("B", f"/proc/self/fd/{shims}/".encode())
        self._order: list[Start] = []
        self._table = array.array("q")
        self._fds = array.array("i", [-1] * _MANY)
        self._words = array.array("q", [0, 0, *self._packet.buffer_info(), *self._place.buffer_info()])
        self._words.extend([self._fds.buffer_info()[0], 0, 0, 0])

    def add(self, key: str, scripted: Scripted) -> None:
        self.starts[key] = Start(key, scripted)
        self._list()

    def drop(self, key: str) -> None:
        if self.starts.pop(key, None):
            self._list()

    def _list(self) -> None:
        self._order = list(self.starts.values())
        self._table = array.array("q", [start.address for start in self._order])
        self._words[0], self._words[1] = self._table.buffer_info()

    def start(self, spawns: int) -> int:
        """Take a Spawn from the socket and start it; HAPPENED, OVER or REFUSED."""
        outcome: int = script.library().start_shim(self._words.buffer_info()[0], spawns)
        if outcome == _BROKEN:
            spawn, _ = self.packet()
            assert isinstance(spawn, Spawn)
            self._chosen().undo(spawn, bytes(self._place).decode() + f"{spawn.id}.sock")
            return REFUSED
        return REFUSED if outcome == _UNKNOWN else outcome

    def packet(self) -> tuple[Message, list[int]]:
        """The Spawn, and the fds that came with it."""
        words = self._words
        return decode(self._packet[: words[_PACKET_BYTES]].tobytes()), self._fds[: words[_FD_COUNT]].tolist()

    def birth(self, spawn: Spawn) -> Birth:
        """What runs."""
        return self._chosen().birth(spawn.sent_ns)

    def _chosen(self) -> Start:
        return self._order[self._words[_CHOSEN]]
