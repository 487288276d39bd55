"""What goes to the user's eyes: lines on stderr, tables on stdout, times in words."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

_STEPS = (("second", 60), ("minute", 60), ("hour", 24), ("day", 7), ("week", 4), ("month", 12))


def say(line: str) -> None:
    """One line on stderr, in one write so that several commands do not mix theirs."""
    write_all(2, f"asyncrt: {plain(line)}\n".encode(errors="backslashreplace"))


def write_all(fd: int, data: bytes) -> None:
    """All of it, also on a non-blocking fd. OSError except EAGAIN; nobody reading stderr is no error."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
        except OSError:
            if fd == 2:
                return
            raise


def plain(text: str) -> str:
    """Without control characters: what a container or file name holds must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns three spaces apart, on stdout."""
    lines = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        print("   ".join(cells).rstrip())


def span(seconds: float) -> str:
    """ "5 seconds", "3 minutes", as docker says it; 0 and below is "less than a second"."""
    count = int(seconds)
    if count < 1:
        return "less than a second"
    unit = ""
    for unit, size in _STEPS:
        if count < size or unit == "month":
            break
        count //= size
    return f"{count} {unit}" + ("s" if count != 1 else "")


def cut(text: str, width: int) -> str:
    """At most `width` characters, an ellipsis where something is missing."""
    return text if len(text) <= width else text[: width - 1] + "…"


def hush() -> None:
    """Nobody reads stdout any more: let the interpreter's last flush go nowhere instead of complaining."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
