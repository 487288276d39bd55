"""asyncrt exec: run one more process in a running container.

Our stdio is handed over as it is, so nothing is copied, but for terminals: a process that holds one could
push words into our shell's input (TIOCSTI; CVE-2016-2568 and kin). It gets pipes, and we copy. With -t it has a
terminal of its own, whose master we hold: we copy, set its size, and hang it up when we end; after the detach keys its
shim holds it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import Any

from asyncrt.cli import keys
from asyncrt.cli.connect import connect
from asyncrt.cli.env import variables
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.foreground import SUCCESSORS, need_terminal
from asyncrt.cli.options import user, workdir
from asyncrt.cli.places import Places
from asyncrt.cli.pump import Detached, Pumps
from asyncrt.cli.say import say
from asyncrt.cli.terminal import Terminal, set_size, size_of
from asyncrt.cli.verb import Verb
from asyncrt.errors import Conflict, Unavailable
from asyncrt.model.container import Exit
from asyncrt.model.options import ExecOptions
from asyncrt.model.protocol import Exec, LeaveExec, WaitExec
from asyncrt.sdk.answer import Answer, typed
from asyncrt.sdk.blocking import Client, exit_of

LINGER = 1.0  # seconds of silence after the exit in which a pipe that a grandchild holds is still read


def _exec(words: Words, places: Places) -> int:
    ref, *args = words.rest
    interactive, tty = words.on("interactive"), words.on("tty") and not words.on("detach")
    need_terminal(tty, interactive)
    detach = keys.parse(words.one("detach-keys", keys.DEFAULT))
    rows, columns = size_of(1 if os.isatty(1) else 0) if tty else (0, 0)
    options = ExecOptions(
        tuple(args),
        variables(words.all("env-file"), words.all("env"), os.environ),
        workdir(words),
        user(words),
        tty,
        rows,
        columns,
    )
    session = Session(places, ref, options)
    if words.on("detach"):
        return session.detached()
    if tty:
        return session.in_terminal(interactive, detach)
    return session.attached(interactive)


class Session:
    """One exec, from asking for it to its exit code."""

    def __init__(self, places: Places, ref: str, options: ExecOptions) -> None:
        self.id = ""
        self._places = places
        self._ref = ref
        self._options = options

    def detached(self) -> int:
        """0 once it runs."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        with contextlib.closing(connect(self._places)) as client:
            try:
                answer = client.execute(self._ref, self._options, [null, null, null])
            finally:
                os.close(null)
            self._begun(answer)
        return 0

    def attached(self, interactive: bool) -> int:
        """The process's exit code."""
        with contextlib.closing(connect(self._places)) as client, Pumps() as pumps:
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                stdin = (pumps.input(0) if os.isatty(0) else 0) if interactive else null
                names = (("stdout", 1), ("stderr", 2))
                outputs = [pumps.output(name, fd) if os.isatty(fd) else fd for name, fd in names]
                answer = client.call(Exec(self._ref, self._options), [stdin, *outputs])
            finally:
                os.close(null)
            pumps.close_remote()
            try:
                self._begun(answer)
                ended = exit_of(answer)
            except Unavailable as error:
                ended = self._from_successor(error)
            return self._finished(ended, pumps)

    def in_terminal(self, interactive: bool, detach: bytes) -> int:
        """The process's exit code; 0 after the detach keys."""
        with contextlib.ExitStack() as stack:
            terminal = stack.enter_context(Terminal(0)) if interactive else None
            pumps = stack.enter_context(Pumps())
            client = stack.enter_context(contextlib.closing(connect(self._places)))
            answer = client.call(Exec(self._ref, self._options))
            (master,) = self._begun(answer)
            self._follow_size(master)
            if terminal is not None:
                terminal.raw()
                pumps.feed(0, os.dup(master), detach)
            pumps.show(os.dup(master), 1)
            try:
                ended = self._end_of_terminal(client, answer, pumps)
                code = self._finished(ended, pumps)
            except Detached:
                if terminal is not None:
                    terminal.sane()
                self._leave(client, master)
                return 0
            finally:
                signal.signal(signal.SIGWINCH, signal.SIG_DFL)
                os.close(master)
            return code

    def _leave(self, client: Client, master: int) -> None:
        """Its terminal goes to who holds it on; where nobody does, it hangs up with us."""
        try:
            client.call(LeaveExec(self._ref, self.id), [master]).result()
        except (Conflict, Unavailable) as error:
            say(f"left the exec, which hangs up: {error.cause}")
        else:
            say("left the exec running; what it shows goes nowhere")

    def _begun(self, answer: Answer) -> list[int]:
        """It runs; the fds that came with the word of it. Raises StartFailed, Conflict, Unavailable."""
        for value, fds in answer:
            self.id = str(typed(value, dict[str, Any])["exec"])
            return fds
        raise Unavailable("exec in", self._ref, "the supervisor did not say that it began")

    def _follow_size(self, master: int) -> None:
        """Ours is its."""
        shown = 1 if os.isatty(1) else 0

        def resized(*_: object) -> None:
            rows, columns = size_of(shown)
            if rows:
                with contextlib.suppress(OSError):
                    set_size(master, rows, columns)

        signal.signal(signal.SIGWINCH, resized)
        resized()  # it may have changed since it was asked for

    def _end_of_terminal(self, client: Client, answer: Answer, pumps: Pumps) -> Exit:
        poll = select.poll()
        poll.register(pumps, select.POLLIN)
        poll.register(client, select.POLLIN)
        try:
            while not answer.done:
                if pumps.fileno() in (fd for fd, _ in poll.poll()):
                    pumps.woken()
                client.receive(0)
            return exit_of(answer)
        except Unavailable as error:
            while pumps.open:  # it goes on, and so do we until its terminal is at its end
                select.select([pumps], [], [])
                pumps.woken()
            return self._from_successor(error)

    def _finished(self, ended: Exit, pumps: Pumps) -> int:
        poll = select.poll()
        poll.register(pumps, select.POLLIN)
        while pumps.open and (left := LINGER - pumps.idle()) > 0:
            poll.poll(min(left, LINGER) * 1000 + 1)
            pumps.woken()
        return ended.code or pumps.failure()

    def _from_successor(self, lost: Unavailable) -> Exit:
        """How it ended, from the supervisor that came after, started if need be; and from its successors."""
        for _ in range(SUCCESSORS if self.id else 0):
            try:
                with contextlib.closing(connect(self._places)) as client:
                    return typed(client.call(WaitExec(self._ref, self.id)).result(), Exit)
            except Unavailable as error:
                lost = error
        cause = f"{lost.cause}; it goes on, but its exit code is lost"
        raise Unavailable("exec in", self._ref, cause, lost.hint) from lost


VERB = Verb(
    usage="exec [FLAGS] CONTAINER COMMAND [ARG...]",
    run=_exec,
    flags=(
        Flag("detach", "d", "", "leave it running"),
        Flag("interactive", "i", "", "give it our stdin; without, it has none"),
        Flag("tty", "t", "", "give it a terminal; with -i, ours is behind it"),
        Flag("env", "e", "NAME=VALUE", "set a variable; NAME alone takes ours"),
        Flag("env-file", "", "FILE", "variables, one a line"),
        Flag("workdir", "w", "DIR", "where it starts"),
        Flag("user", "u", "USER[:GROUP]", "names or numbers"),
        Flag("detach-keys", "", "KEYS", f"leave it running, from its terminal ({keys.DEFAULT})"),
    ),
    least=2,
    stop=True,
    failure=125,
    own=True,
)
