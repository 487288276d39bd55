"""NOTIFY_SOCKET: a container's program tells the manager that started us that it is ready (sd_notify(3)).

systemd hears only the unit's own processes, and its socket lies outside of the root. So the program gets a socket of
ours, and who says `start` stands in between:

    create                        start, or run                            the manager
      ROOT/ID/notify, mounted       binds ROOT/ID/notify/notify
      read-only inside, named       the program runs
      in its NOTIFY_SOCKET          | <- READY=1 ------- program
                                    | -- MAINPID=N, READY=1 ---------------> |
                                    ends

`start` and a detached `run` wait until the program is ready, or has ended. A `run` in the foreground stays the unit's
main process, and hands on what comes for as long. Of a message only lines about the program's state pass: MAINPID
would be a number of its own pid namespace, and what is kept or set in the manager is not the program's to choose.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

from shimd.command import removal
from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.shelf import NOTIFY, Shelf

VARIABLE = "NOTIFY_SOCKET"
SOCKET = "notify"  # in the directory of that name
LONGEST = 4096
MOST_AT_ONCE = 64  # messages between two looks at everything else
SEND_SECONDS = 5.0  # for a manager whose socket is full
READY = b"READY=1"
PASSED = (
    *(b"READY", b"RELOADING", b"STOPPING", b"STATUS", b"ERRNO", b"BUSERROR", b"EXIT_STATUS"),
    *(b"WATCHDOG", b"EXTEND_TIMEOUT_USEC", b"MONOTONIC_USEC"),
)
OPTIONS = ("bind", "ro", "nosuid", "nodev", "noexec")


def managers() -> str:
    """The socket of whoever started us, "" if there is none that we know how to speak to."""
    path = os.environ.get(VARIABLE, "")
    return path if path.startswith(("/", "@")) and len(path) > 1 else ""


def place_inside(path: str) -> str:
    """Where the container finds the directory of its socket: by the name that the manager's has, as under crun."""
    return path if path.startswith("/") else "/run/notify"


class Notice:
    """The socket of a container whose program is about to start; made before it runs, closed by `close`."""

    def __init__(self, shelf: Shelf, journal: Journal) -> None:
        self.host = managers()
        self.journal = journal
        self.socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
        directory = os.open(f"{shelf.path}/{NOTIFY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{directory}/{SOCKET}"  # a --root may be longer than a socket's address
            self.socket.bind(path)
            os.chmod(path, 0o777)  # noqa: S103 # the program's user is whoever the config says
        finally:
            os.close(directory)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def wait(self, record: Record) -> None:
        """Until the program is ready, which the manager hears with its pid, or has ended."""
        init = removal.open_init(record)
        try:
            poll = select.poll()
            poll.register(self.socket.fileno(), select.POLLIN)
            if init >= 0:
                poll.register(init, select.POLLIN)
            ended = init < 0
            while not self.hand_on(record.pid) and not ended:
                ended = any(fd == init for fd, _ in poll.poll())
            if ended:
                self.hand_on(record.pid)
        finally:
            if init >= 0:
                os.close(init)

    def hand_on(self, main_pid: int = 0) -> bool:
        """What has come by now. With a `main_pid`, which goes with READY, up to that; was it there?"""
        for _ in range(MOST_AT_ONCE):
            try:
                message = self.socket.recv(LONGEST)  # fds beside it (sd_notify_barrier(3)) are closed by that
            except BlockingIOError:
                return False
            lines = [line for line in message.split(b"\n") if line.partition(b"=")[0] in PASSED]
            ready = READY in lines
            if ready and main_pid:
                lines.insert(0, b"MAINPID=%d" % main_pid)
            if lines:
                self._tell(b"\n".join(lines))
            if ready and main_pid:
                return True
        return False

    def _tell(self, message: bytes) -> None:
        line = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        line.settimeout(SEND_SECONDS)
        try:
            line.sendto(message, "\0" + self.host[1:] if self.host.startswith("@") else self.host)
        except OSError as error:
            self.journal.warn(f"notify {self.host}: {(error.strerror or str(error)).lower()}")
        finally:
            line.close()


def opened(shelf: Shelf, journal: Journal) -> Notice | None:
    """The container's socket, if it was made for one and somebody wants to hear; the shelf is locked."""
    if not managers() or not os.path.isdir(f"{shelf.path}/{NOTIFY}"):
        return None
    return Notice(shelf, journal)
