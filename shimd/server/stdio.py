"""All of a container's stdio: its two streams or its terminal, its stdin, its log, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from shimd.container.plan import Plan
from shimd.container.starting import Birth
from shimd.errors import RuntimeTrouble, Trouble
from shimd.server.formats import FORMS, Copy
from shimd.server.log import NAMES, Log
from shimd.server.loop import Loop
from shimd.server.stdin import Stdin
from shimd.server.streams import Stream
from shimd.server.terminal import TerminalStdin, TerminalStream
from shimd.wire.messages import Attach, Attached

NOT_THIS = -1


class Stdio:
    """`on_end` is called whenever a stream has come to its end."""

    __slots__ = ("copy", "id", "log", "loop", "on_end", "plan", "stdin", "streams")

    def __init__(
        self, loop: Loop, plan: Plan, birth: Birth, id: str, directory: str, on_end: Callable[[], None]
    ) -> None:
        self.loop = loop
        self.plan = plan
        self.id = id[:12]
        self.on_end = on_end
        self.log = Log(directory, plan.log.bound * plan.log.files)
        self.copy = Copy(self.log, plan.log) if plan.log.form in FORMS else None
        of_stdout, of_stdin = (TerminalStream, TerminalStdin) if plan.terminal else (Stream, Stdin)
        self.streams: list[Stream] = [
            of_stdout(loop, self.log, 1, birth.stdout, self._ended),
            Stream(loop, self.log, 2, birth.stderr, self._ended),
        ]
        for stream in self.streams:
            stream.follower = self.copy
        self.stdin = of_stdin(loop, birth.stdin) if birth.stdin >= 0 else None

    # the end

    def _ended(self) -> None:
        if self.copy is not None and self.drained:
            self.copy.end()
        self.on_end()

    def init_ended(self) -> None:
        """What is there is read; nobody reads what is typed."""
        if self.stdin is not None:
            self.stdin.close()
        for stream in self.streams:
            if isinstance(stream, TerminalStream):
                stream.init_ended()

    def cut(self) -> None:
        """Wait for no more output."""
        for stream in self.streams:
            stream.end()

    @property
    def drained(self) -> bool:
        return all(stream.ended for stream in self.streams)

    @property
    def stalled(self) -> bool:
        """Does a full disk hold bytes back?"""
        return any(stream.stalled for stream in self.streams)

    @property
    def heard(self) -> bool:
        """Has a subscriber not got all yet?"""
        return any(stream.subscribers for stream in self.streams)

    # what the supervisor asks; RuntimeTrouble says why not

    def attach(self, message: Attach, fds: list[int]) -> Attached:
        offsets = (message.stdout, message.stderr)
        if len(fds) != message.stdin + sum(offset != NOT_THIS for offset in offsets):
            self._refuse("attach to", "fds and streams do not match")
        if self.plan.log.form == "none":
            self._refuse("attach to", "it keeps no log: its stdio is its starter's own")
        self._check(offsets)
        if message.stdin:
            if self.stdin is None:
                self._refuse("attach to", "it has no stdin", "run it with -i")
            if refused := self.stdin.take(fds[0], message.once):
                self._refuse("attach to", refused)
        rest = fds[message.stdin :]
        begun = [
            NOT_THIS if offset == NOT_THIS else stream.subscribe(rest.pop(0), offset)
            for stream, offset in zip(self.streams, offsets, strict=True)
        ]
        return Attached(message.seq, *begun)

    def _check(self, offsets: tuple[int, int]) -> None:
        """Before anything is done: has a bounded log dropped what is asked for?"""
        for stream, offset in zip(self.streams, offsets, strict=True):
            first = stream.open()
            if 0 <= offset < first:
                cause = f"the log of {NAMES[stream.number]} begins at byte {first}: its bound has dropped the rest"
                self._refuse("attach to", cause, f"ask for {first} or more, or for the oldest")

    def close_stdin(self) -> None:
        if self.stdin is None:
            self._refuse("close stdin of", "it has none", "run it with -i")
        if not self.stdin.close_when_drained():
            self._refuse("close stdin of", "it is closed")

    def resize(self, rows: int, columns: int) -> None:
        """One that ended just now has no size any more: fine."""
        terminal = self.streams[0]
        if not isinstance(terminal, TerminalStream):
            self._refuse("resize", "it has no terminal", "run it with -t")
        if not terminal.ended:
            terminal.resize(rows, columns)

    def _refuse(self, deed: str, cause: str, hint: str = "") -> NoReturn:
        raise RuntimeTrouble(Trouble(deed, self.id, cause, hint))
