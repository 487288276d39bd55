"""The terminal of a container, from the master's side: its output is a stream, its input a stdin.

EIO from the master means that nobody has the terminal open just now (pty(7)). While init lives somebody may open it
again, /dev/console above all: then we hold the slave ourselves, so that there is nothing to be polled, and let go of it
once init ended. What had been written before is read first (n_tty: the master reads what is buffered, then EIO).

A terminal has no half-close. close_when_drained() gives it what a person would: its end-of-file character, VEOF of
termios(3), twice where a line was begun, as the first one only ends that. A program that reads raw bytes (ICANON off)
gets nothing: it asked for bytes and not for ends.
"""

from __future__ import annotations

import errno
import os
import select
import termios
from collections.abc import Callable

from shimd.container import console
from shimd.server.log import Log
from shimd.server.stdin import Stdin, events_of
from shimd.server.streams import Loop, Stream

BLOCK = 64 * 1024  # bytes of a read; the kernel's buffer holds less
LOCAL_MODES, CHARACTERS = 3, 6  # places in what termios.tcgetattr() gives


class TerminalStream(Stream):
    """What the program shows. `pipe` is the master."""

    __slots__ = ("held", "over", "slave")

    def __init__(self, loop: Loop, log: Log, number: int, master: int, on_end: Callable[[], None]) -> None:
        super().__init__(loop, log, number, master, on_end)
        self.held = b""
        """Read, but not yet in the log: the disk is full."""
        self.slave = -1
        self.over = False
        """Has init ended?"""

    def readable(self, events: int) -> None:
        # A hang-up comes without POLLIN, and may be for a while; Stream would take it for the end of a silent pipe.
        super().readable(events | select.POLLIN)

    def arrive(self) -> int:
        if not self.held:
            try:
                self.held = os.read(self.pipe, BLOCK)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return self._hung_up()
        moved = 0
        while self.held:
            taken = self.log.write(self.held, self.number)
            self.held = self.held[taken:]
            moved += taken
        return moved

    def _hung_up(self) -> int:
        if self.over:
            return 0
        self.slave = console.peer(self.pipe)
        raise BlockingIOError(errno.EAGAIN, "nobody has the terminal open")

    def init_ended(self) -> None:
        """From now on a hang-up is the end."""
        self.over = True
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
        if not self.ended:
            self.readable(select.POLLIN)

    def end(self) -> None:
        if not self.ended and self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
        super().end()

    def resize(self, rows: int, columns: int) -> None:
        """OSError if it is gone."""
        console.resize(self.pipe, rows, columns)


class TerminalStdin(Stdin):
    """What is typed. `pipe` is a duplicate of the master, since a loop has one handler per fd."""

    __slots__ = ("held", "line_begun")

    def __init__(self, loop: Loop, pipe: int) -> None:
        super().__init__(loop, pipe)
        self.held = b""
        """Read from the client, but not yet taken by the terminal."""
        self.line_begun = False

    def move(self) -> int:
        if not self.held:
            if not events_of(self.source) & (select.POLLIN | select.POLLHUP):
                raise BlockingIOError(errno.EAGAIN, "nothing is typed")
            self.held = os.read(self.source, BLOCK)
        if not self.held:
            return 0
        moved = 0
        while self.held:  # what is left has no event of its own: BlockingIOError says that room is waited for
            taken = os.write(self.pipe, self.held)
            self.line_begun = self.held[taken - 1 : taken] not in (b"\n", b"\r")
            self.held = self.held[taken:]
            moved += taken
        return moved

    def _wait(self) -> None:
        if not self.held:
            super()._wait()
            return
        self.loop.unwatch(self.source)
        self.loop.watch(self.pipe, select.POLLOUT, self.reader_event)

    def reader_event(self, events: int) -> None:
        if self.source < 0 and self.held:
            self._type_held()
        else:
            super().reader_event(events)

    def finish(self) -> None:
        """The end-of-file character, and on: a terminal may be fed again."""
        self.closing = False
        self.leave()
        attributes = termios.tcgetattr(self.pipe)
        if attributes[LOCAL_MODES] & termios.ICANON:
            self.held += attributes[CHARACTERS][termios.VEOF] * (2 if self.line_begun else 1)
            self.line_begun = False
            self._type_held()

    def _type_held(self) -> None:
        try:
            self.held = self.held[os.write(self.pipe, self.held) :]
        except BlockingIOError:
            pass
        self.loop.watch(self.pipe, select.POLLOUT if self.held else 0, self.reader_event)
