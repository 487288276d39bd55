"""A list of system calls as data, and the small machine in C that runs it (script.c).

A child that sets a container up in Python copies a page of the interpreter with nearly every line it runs. A script
is made once, where there is time for it; running it takes no interpreter, so the child can share its parent's memory
(clone3(2), CLONE_VM) until its execve, and neither copies anything.

    script = Script()
    target = script.cell()
    script.call("openat2", root, script.text("proc"), script.record("QQQ", O_PATH, 0, RESOLVE_IN_ROOT), 24, out=target)
    failure = script.finish().run(script.beginning)

A script's variables are cells, 64 bits each. Arguments are cells, ints (constants), and texts, records and rows, which
are constants too: addresses of what the script keeps. A call's failure ends the script unless its errno is expected;
`expect` says where the script goes on then.
"""

from __future__ import annotations

import array
import ctypes
import functools
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from shimd.linux.syscalls import NUMBERS

ANY_ERROR = 4095

_JUMP, _MATCH, _EMPTY, _STAMP, _FAIL, _REACH, _LOAD, _STORE, _COPY, _END = -1, -2, -3, -4, -5, -6, -7, -8, -9, -10
_ERRNO, _SAME = -11, -12
_INSTRUCTION = struct.Struct("=hHhhHH6H")  # struct instruction of script.c


class Cell(NamedTuple):
    """A variable of a script, by number."""

    number: int


class Label:
    """A place in a script, perhaps not known yet."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = 0


Argument = Cell | int
Expected = tuple[tuple[int, ...], Label]


class Failure(NamedTuple):
    """Where a script ended: errno, the step that the call was part of, and the call's place in the list."""

    errno: int
    step: int
    place: int


class Script:
    """A list in the making. `step` numbers the calls that follow, for the one who asks what failed."""

    def __init__(self) -> None:
        self.step = 0
        self.beginning = Label()
        self._code: list[tuple[int, int, tuple[int, ...], Label | None, int, list[int]]] = []
        self._cells: list[int] = [0]  # cell 0 takes the results that nobody wants
        self._data = bytearray()
        self._pointers: dict[int, int] = {}
        """Cells that hold an address: cell -> offset into the data."""
        self._rows: dict[int, int] = {}
        """Cells that hold the address of a cell: cell -> cell."""
        self._constants: dict[int, Cell] = {}
        self._kept: dict[bytes, Cell] = {}

    # values

    def cell(self, value: int = 0) -> Cell:
        """A variable of its own."""
        self._cells.append(value)
        return Cell(len(self._cells) - 1)

    def constant(self, value: int) -> Cell:
        if value not in self._constants:
            self._constants[value] = self.cell(value)
        return self._constants[value]

    def text(self, text: str) -> Cell:
        """The address of a string with its NUL."""
        return self.blob(os.fsencode(text) + b"\0")

    def record(self, layout: str, *values: int) -> Cell:
        """The address of a struct, laid out as struct.pack does natively."""
        return self.blob(struct.pack(layout, *values))

    def blob(self, data: bytes) -> Cell:
        """The address of bytes that no call writes to; equal ones are kept once."""
        if data not in self._kept:
            self._kept[data] = self.room(len(data), data)
        return self._kept[data]

    def room(self, size: int, data: bytes = b"") -> Cell:
        """The address of `size` bytes that calls may write to, 16-aligned."""
        self._data += bytes(-len(self._data) % 16)
        cell = self.cell()
        self._pointers[cell.number] = len(self._data)
        self._data += data.ljust(size, b"\0")
        return cell

    def offset(self, room: Cell, offset: int) -> Cell:
        """The address `offset` bytes into a room."""
        cell = self.cell()
        self._pointers[cell.number] = self._pointers[room.number] + offset
        return cell

    def row(self, values: Sequence[Cell | None], spare: int) -> tuple[Cell, list[int]]:
        """An array of pointers that ends with a null, as execve(2) takes it: its address, and its cells' numbers.

        `spare` places more are null, for the one who runs the script to fill.
        """
        numbers: list[int] = []
        for value in [*values, *[None] * spare, None]:
            place = self.cell()
            if value is not None:
                self._pointers[place.number] = self._pointers[value.number]
            numbers.append(place.number)
        head = self.cell()
        self._rows[head.number] = numbers[0]
        return head, numbers

    def words(self, values: Sequence[Cell | int]) -> Cell:
        """The address of a struct of 64-bit words, some of them addresses."""
        places = [self.cell(0 if isinstance(value, Cell) else value) for value in values]
        for place, value in zip(places, values, strict=True):
            if isinstance(value, Cell):
                self._pointers[place.number] = self._pointers[value.number]
        head = self.cell()
        self._rows[head.number] = places[0].number
        return head

    # calls

    def call(self, name: str, *arguments: Argument, out: Cell | None = None, expect: Expected | None = None) -> None:
        """One system call."""
        self._add(NUMBERS[name], arguments, out.number if out else 0, expect)

    def opened(self, name: str, *arguments: Argument, expect: Expected | None = None) -> Cell:
        """A call whose result is an fd that the caller of this closes."""
        fd = self.cell()
        self.call(name, *arguments, out=fd, expect=expect)
        return fd

    def attempt(self, name: str, *arguments: Argument, errors: tuple[int, ...] = (ANY_ERROR,)) -> None:
        """A call that may fail with one of `errors`: it then counts as done."""
        after = Label()
        self.call(name, *arguments, expect=(errors, after))
        self.here(after)

    def close(self, *fds: Cell) -> None:
        for fd in fds:
            self.call("close", fd)

    def here(self, label: Label) -> None:
        """The label's place is the next instruction."""
        label.place = len(self._code)

    def jump(self, label: Label) -> None:
        self._add(_JUMP, (), 0, ((), label))

    def match(self, address: Cell, mask: int, value: int, label: Label) -> None:
        """If the 64 bits at the address, masked, are `value`: go on at the label."""
        self._add(_MATCH, (address, mask, value), 0, ((), label))

    def require(self, address: Cell, mask: int, value: int, errno: int) -> None:
        """Fail with errno unless the 64 bits at the address, masked, are `value`."""
        good = Label()
        self.match(address, mask, value, good)
        self.fail(errno)
        self.here(good)

    def skip_if_empty(self, cell: Cell, label: Label) -> None:
        """If the cell is 0: go on at the label."""
        self._add(_EMPTY, (cell,), 0, ((), label))

    @contextmanager
    def unless_empty(self, cell: Cell) -> Iterator[None]:
        """What is added inside is left out when the cell is 0."""
        after = Label()
        self.skip_if_empty(cell, after)
        yield
        self.here(after)

    def copy(self, value: Argument, out: Cell) -> None:
        """The cell takes the value."""
        self._add(_COPY, (value,), out.number, None)

    def stamp(self, cell: Cell) -> None:
        """The cell takes CLOCK_MONOTONIC, in ns."""
        self._add(_STAMP, (), cell.number, None)

    def fail(self, errno: Argument) -> None:
        self._add(_FAIL, (errno,), 0, None)

    def came(self, out: Cell) -> None:
        """The cell takes the errno that was expected, and came, last."""
        self._add(_ERRNO, (), out.number, None)

    def same(self, one: Argument, other: Argument, label: Label) -> None:
        """If the two are equal: go on at the label."""
        self._add(_SAME, (one, other), 0, ((), label))

    def load(self, address: Cell, out: Cell) -> None:
        """The cell takes the int (32 bits, signed and not negative) at the address."""
        self._add(_LOAD, (address,), out.number, None)

    def store(self, address: Cell, value: Argument) -> None:
        """The int at the address becomes the value."""
        self._add(_STORE, (address, value), 0, None)

    def end(self) -> None:
        """A run ends here."""
        self._add(_END, (), 0, None)

    def reach(self, state: int) -> None:
        """From here on the run's state is this number."""
        self._add(_REACH, (state,), 0, None)

    def _add(self, number: int, arguments: Sequence[Argument], out: int, expect: Expected | None) -> None:
        cells = [value.number if isinstance(value, Cell) else self.constant(value).number for value in arguments]
        errors, label = expect or ((), None)
        self._code.append((number, out, errors, label, self.step, cells + [0] * (6 - len(cells))))

    def finish(self, strings: int = 0) -> Program:
        """The list as the machine runs it, with room for `strings` bytes that differ from run to run."""
        self.end()
        place = self.room(strings)
        data = array.array("B", self._data)
        cells = array.array("q", self._cells)
        self._point(cells, cells.buffer_info()[0], data.buffer_info()[0])
        return Program(array.array("B", self._packed()), cells, data, self._pointers[place.number])

    def image(self, base: int) -> Image:
        """The list for another process, which has it at the address `base`, 16-aligned."""
        self.end()
        cells = array.array("q", self._cells)
        size = cells.itemsize * len(cells)
        data = base + size + size % 16
        code = data + len(self._data) + -len(self._data) % 16
        self._point(cells, base, data)
        parts = (cells.tobytes().ljust(data - base, b"\0"), self._data.ljust(code - data, b"\0"), self._packed())
        return Image(b"".join(parts), base, code)

    def _point(self, cells: array.array[int], cells_at: int, data_at: int) -> None:
        for cell, offset in self._pointers.items():
            cells[cell] = data_at + offset
        for cell, first in self._rows.items():
            cells[cell] = cells_at + first * cells.itemsize

    def _packed(self) -> bytes:
        return b"".join(
            _INSTRUCTION.pack(number, out, *(*errors, 0, 0)[:2], label.place if label else 0, step, *arguments)
            for number, out, errors, label, step, arguments in self._code
        )


class Image(NamedTuple):
    """A script's bytes for one address, and where in them its cells and its code are."""

    data: bytes
    cells: int
    code: int

    def entered(self, entry: Label) -> tuple[int, ...]:
        """struct run of script.c, as in Program."""
        return self.code, self.cells, entry.place, 0, 0, 0, 0


class Program(NamedTuple):
    """A finished script. Its cells are its memory: a fork's copy is its own."""

    code: array.array[int]
    cells: array.array[int]
    data: array.array[int]
    strings: int
    """Where in the data the room for strings of a run's own begins; it goes on to the end."""

    def entered(self, entry: Label) -> list[int]:
        """struct run of script.c: code, cells, entry, state, error, step, at."""
        return [self.code.buffer_info()[0], self.cells.buffer_info()[0], entry.place, 0, 0, 0, 0]

    def run(self, entry: Label) -> Failure | None:
        """Run the script in this process; where it failed."""
        run = array.array("q", self.entered(entry))
        return Failure(*run[4:7]) if library().script_run(run.buffer_info()[0]) < 0 else None


CHILD, CONTROL, OVER = 0, 1, 2
"""What nursery() returned for."""


def nursery(tickets: int, children: int, control: int) -> int:
    """Fork a child per byte from the pipe `tickets`, reap those that ended (`children` is a signalfd for SIGCHLD).

    CHILD in a child, CONTROL in us when that fd is readable, OVER at the pipe's end. OSError: there can be no child.
    No atfork handlers run (as with processes.clone3).
    """
    outcome: int = library().script_nursery(tickets, children, control)
    if outcome < 0:
        raise OSError(-outcome, os.strerror(-outcome), "a new process")
    return outcome


def usable() -> bool:
    """Is the machine built, for this processor, and wanted?"""
    wanted = os.environ.get("ASYNCRT_SCRIPTS", "on") != "off"
    return wanted and platform.machine() == "x86_64" and _place() is not None and library() is not None


def _place() -> Path | None:
    """Where pip's build has put it."""
    return next(iter(sorted(Path(__file__).parent.glob("_script*.so"))), None)


@functools.cache
def library() -> ctypes.PyDLL:
    """script.c and start.c, built. OSError where they are not."""
    if (place := _place()) is None:
        raise OSError(2, "the script machine is not built", "_script.so")
    found = ctypes.PyDLL(str(place))
    pointer, number = ctypes.c_void_p, ctypes.c_int
    arguments = {
        "script_run": (pointer,),
        "script_nursery": (number, number, number),
        "script_bear": (pointer, ctypes.c_long, pointer),
        "start_shim": (pointer, number),
    }
    for name, types in arguments.items():
        function = getattr(found, name)
        function.argtypes, function.restype = types, ctypes.c_long
    return found
