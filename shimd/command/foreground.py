"""Who stays: wait for a child, hand signals on to it, carry its terminal."""

from __future__ import annotations

import os
import select

from shimd.command.notify import Notice
from shimd.command.terminal import Terminal
from shimd.linux import processes, signals

SIGCHLD, SIGWINCH = 17, 28
# Not to be caught, raised by our own faults, or about ourselves: job control stops us, and the child has a session
# of its own. SIGPIPE is ignored.
KEPT = (SIGCHLD, 9, 19, 4, 7, 8, 11, 13, 18, 20, 21, 22, 23, 32, 33)
FORWARDED = tuple(number for number in range(1, 65) if number not in KEPT and number != SIGWINCH)
SIGNALFD_RECORD = 128


class Foreground:
    """Made before the child: no signal may come to nothing in between."""

    def __init__(self, adopt: bool = False) -> None:
        signals.block((*FORWARDED, SIGCHLD, SIGWINCH))
        self.signals = signals.signalfd((*FORWARDED, SIGCHLD, SIGWINCH))
        if adopt:
            processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)

    def wait(self, pid: int, pidfd: int, terminal: Terminal | None, notice: Notice | None = None) -> int:
        """The child's exit code as a shell has it, once all of its terminal's output is out."""
        poll = select.poll()
        poll.register(self.signals, select.POLLIN)
        if notice is not None:
            poll.register(notice.fileno(), select.POLLIN)
        if terminal is not None:
            terminal.register(poll)
        while True:
            for fd, _ in poll.poll():
                if terminal is not None and fd in terminal.fds:
                    terminal.move(fd, poll)
            if notice is not None:
                notice.hand_on()
            code = self._hear(pid, pidfd, terminal)
            if code is not None:
                if terminal is not None:
                    terminal.drain()
                return code

    def _hear(self, pid: int, pidfd: int, terminal: Terminal | None) -> int | None:
        """Act on the signals that came; the exit code if the child ended."""
        while True:
            try:
                record = os.read(self.signals, SIGNALFD_RECORD)
            except BlockingIOError:
                return None
            number = int.from_bytes(record[:4], "little")
            if number == SIGWINCH:
                if terminal is not None:
                    terminal.follow_size()
            elif number == SIGCHLD:
                code = _reap(pid)
                if code is not None:
                    return code
            else:
                try:
                    processes.pidfd_send_signal(pidfd, number)
                except ProcessLookupError:
                    continue  # SIGCHLD is on its way


def _reap(pid: int) -> int | None:
    """All that ended; the code of the one that counts."""
    code = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if not ended:
            return code
        if ended == pid:
            result = os.waitstatus_to_exitcode(status)
            code = result if result >= 0 else 128 - result
