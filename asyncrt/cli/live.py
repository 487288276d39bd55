"""The picture on stderr: redrawn on a terminal, plain lines elsewhere.

The cursor is never hidden and rests at the end of the block, so there is nothing to restore on any way out,
kill -9 included. A frame is one write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from asyncrt.cli import picture
from asyncrt.cli.picture import Style, Timeline
from asyncrt.cli.say import plain, say, write_all
from asyncrt.cli.tally import Counts

FRAME = 0.1  # seconds between two drawings
LINE = 1.0  # seconds between two plain lines
_STDERR = 2


class Live:
    """draw() as often as you like, above() for other words on the terminal, finish() once."""

    def __init__(self, title: str, environment: Mapping[str, str], quiet: bool = False, still: bool = False) -> None:
        """`quiet`: no picture without a terminal. `still`: none at all."""
        self.tty = os.isatty(_STDERR) and environment.get("TERM", "dumb") != "dumb" and not still
        self.silent = quiet and not self.tty
        self.every = FRAME if self.tty else LINE
        self._title = plain(title)
        self._drawn = 0
        self._next = 0.0
        self._above: list[tuple[int, bytes]] = []
        self._style = style(environment) if self.tty else Style(False, False)

    def due(self, now: float) -> float:
        """Seconds until the next drawing."""
        if self.silent:
            return self.every
        return max(0.0, self._next - now)

    def draw(self, counts: Counts, now: float) -> None:
        """Draw if it is time (`now`: seconds of a monotonic clock)."""
        if self.silent or now < self._next:
            return
        first, self._next = self._next == 0.0, now + self.every
        if self.tty:
            self._redraw(counts)
        elif not first:
            say(picture.line(counts))

    def above(self, fd: int, data: bytes) -> None:
        """Whole lines for our stdout or stderr. On the picture's terminal they come above the block, with the
        next drawing: taking it away for each line would make it flicker.
        """
        if self.tty and os.isatty(fd):
            self._above.append((fd, data))
        else:
            write_all(fd, data)

    def say(self, words: str) -> None:
        """As say.say(), above the block."""
        self.above(_STDERR, f"asyncrt: {plain(words)}\n".encode(errors="backslashreplace"))

    def conceal(self) -> None:
        """Take the block away, and show what waits; the next draw() brings it back."""
        if self._drawn:
            write_all(_STDERR, (self._home() + "\x1b[J").encode())
            self._drawn = 0
        waiting, self._above = self._above, []
        for fd, data in waiting:
            write_all(fd, data)

    def leave(self) -> None:
        """The block stays as it is, and what comes next begins on a line of its own."""
        if self._above:
            self.conceal()
        if self._drawn:
            write_all(_STDERR, b"\n")
            self._drawn = 0

    def finish(self, counts: Counts, timelines: Iterable[Timeline]) -> None:
        """The last state, then the latency table."""
        if self.silent:
            return
        if self.tty:
            self._redraw(counts)
            self.leave()
        else:
            say(picture.line(counts))
        lines = picture.table(picture.latencies(timelines), self._columns(), self._style)
        if lines:
            lead = "\n" if self.tty else ""
            write_all(_STDERR, (lead + "\n".join(lines) + "\n").encode(errors="replace"))

    def _redraw(self, counts: Counts) -> None:
        if self._above:
            self.conceal()
        lines = picture.block(self._title, counts, self._columns(), self._style)
        frame = self._home() + "\n".join(f"{line}\x1b[K" for line in lines)
        write_all(_STDERR, frame.encode(errors="replace"))
        self._drawn = len(lines)

    def _home(self) -> str:
        """To the block's first column, where it was left."""
        return "\r" + (f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else "")

    def _columns(self) -> int:
        """One less than there are: a sign in the last column may wrap."""
        try:
            columns = os.get_terminal_size(_STDERR).columns
        except OSError:
            columns = 0
        return (columns or 80) - 1


def style(environment: Mapping[str, str]) -> Style:
    """no-color.org; the locale as POSIX orders its variables (LC_ALL, LC_CTYPE, LANG)."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    unicode = "utf8" in locale.lower().replace("-", "")
    return Style(not environment.get("NO_COLOR"), unicode)
