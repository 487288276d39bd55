"""Our terminal, raw while a container's or an exec's is behind it, and as it was on every way out.

    with Terminal(0) as terminal:
        terminal.raw()          keys go through as bytes
        terminal.sane()         before a word to the user

Left by the end of the block, by an exception, by SIGTSTP (until SIGCONT); and where this process is killed, by a
guardian: a child that waits for the end of a pipe that only we hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
from types import FrameType, TracebackType
from typing import Any, NoReturn

_SIZE = struct.Struct("HHHH")  # struct winsize (ioctl_tty(2)): rows, columns, and two that nobody uses
_DONE = b"."


def size_of(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal; (0, 0) of what is none."""
    try:
        rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(_SIZE.size)))
    except OSError:
        return 0, 0
    return rows, columns


def set_size(fd: int, rows: int, columns: int) -> None:
    """OSError where it is no terminal."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


class Terminal:
    """The terminal behind `fd`; entered before any thread is started, raw between raw() and sane() or the exit."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._sane = termios.tcgetattr(fd)
        self._raw = _raw(self._sane)
        self._is_raw = False
        self._lifeline = -1
        self._guardian = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Terminal:
        self._guardian, self._lifeline = _guarded(self._fd, self._sane, self._raw)
        for number, handler in ((signal.SIGTSTP, self._stop), (signal.SIGCONT, self._go_on)):
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self.sane()
        with contextlib.suppress(OSError):
            os.write(self._lifeline, _DONE)
        os.close(self._lifeline)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._guardian, 0)

    def raw(self) -> None:
        self._is_raw = True
        self._set(self._raw)

    def sane(self) -> None:
        """As it was. Safe to repeat."""
        if self._is_raw:
            self._is_raw = False
            self._set(self._sane)

    def _set(self, attributes: list[Any]) -> None:
        # TCSANOW: to wait for the output would be to wait for a reader that may have stopped it (^S). EIO: hung up.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """As any program stops, with the terminal as the shell wants it."""
        if self._is_raw:
            self._set(self._sane)
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        if self._is_raw:
            self._set(self._raw)
        os.kill(os.getpid(), signal.SIGWINCH)  # it may have another size by now


def _raw(sane: list[Any]) -> list[Any]:
    """As cfmakeraw(3): bytes go to the container as they are typed, and come as they were written."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = sane
    t = termios
    iflag &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
    oflag &= ~t.OPOST
    lflag &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
    cflag = cflag & ~(t.CSIZE | t.PARENB) | t.CS8
    characters = list(characters)
    characters[t.VMIN], characters[t.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


def _guarded(fd: int, sane: list[Any], raw: list[Any]) -> tuple[int, int]:
    """The guardian's pid, and the pipe's end whose end it waits for."""
    read_end, lifeline = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _guard(fd, sane, raw, read_end)
    os.close(read_end)
    return pid, lifeline


# ---------------------------------------------------------------------------- after fork


def _guard(fd: int, sane: list[Any], raw: list[Any], read_end: int) -> NoReturn:
    """Out of reach of the terminal's signals and of a kill of our process group; holds nothing but these two fds."""
    try:
        os.setsid()
        os.dup2(fd, 0)
        os.dup2(read_end, 1)
        os.closerange(2, 1 << 16)
        # A shell that has the terminal back has set it as it likes: what is no longer raw is not ours to mend.
        if os.read(1, 1) != _DONE and _same(termios.tcgetattr(0), raw):
            termios.tcsetattr(0, termios.TCSANOW, sane)
    except (OSError, termios.error):
        os._exit(1)  # nobody is left who could be told
    os._exit(0)


def _same(now: list[Any], raw: list[Any]) -> bool:
    """Whether the modes are those; the speeds and what the kernel keeps beside them do not matter."""
    return (now[1], now[3]) == (raw[1], raw[3])
