"""config.md, "Process": terminal and consoleSize, by ``--console-socket`` as runc's command line has it."""

import array
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.bundle import Bundle, Facts, read

pytestmark = pytest.mark.root


class Console:
    """A socket that waits for the master of one pty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(30)
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        try:
            caller, _ = self._listener.accept()
        except OSError:
            return
        held = array.array("i", [-1])
        with caller:
            _, ancillary, _, _ = caller.recvmsg(4096, socket.CMSG_SPACE(held.itemsize))
        for _, _, data in ancillary:
            held = array.array("i", data[: held.itemsize])
        self.fd = held[0]

    def output(self) -> str:
        """All that the container writes, until it has ended."""
        self._thread.join()
        text = b""
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has the other side any more
                return text.decode()
            if not data:
                return text.decode()
            text += data

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        if self.fd >= 0:
            os.close(self.fd)


@pytest.fixture
def console(bundle: Bundle) -> Iterator[Console]:
    """Bound in the bundle, whose path is short enough for a socket's name."""
    made = Console(bundle.path / "tty")
    yield made
    made.close()


def seen(bundle: Bundle, console: Console, *words: str) -> Facts:
    """What the witness says on a terminal."""
    bundle.process["terminal"] = True
    bundle.does("report", *words).started("--console-socket", str(console.path))
    return read(console.output())


def test_terminal(bundle: Bundle, console: Console) -> None:
    """config.md, Process, terminal: a pty is duplicated on the standard streams."""
    facts = seen(bundle, console)
    assert [facts[f"tty {fd}"] for fd in range(3)] == ["1", "1", "1"]
    assert facts["sid"] == facts["pid"]


def test_console_size(bundle: Bundle, console: Console) -> None:
    """config.md, Process, consoleSize: height and width in characters."""
    bundle.process["consoleSize"] = {"height": 31, "width": 97}
    assert seen(bundle, console)["winsize"] == "31x97"


def test_dev_console(bundle: Bundle, console: Console) -> None:
    """config-linux.md, Default Devices: /dev/console is the pty where terminal is enabled."""
    facts = seen(bundle, console, ",", "stat", "/dev/console", ",", "readlink", "/proc/self/fd/0")
    assert facts["stat /dev/console"].split()[0] == "char"
    assert facts["stat /dev/console"].split()[3].startswith("136:")


def test_terminal_needs_a_console_socket(bundle: Bundle) -> None:
    """runtime.md, Create: a property that cannot be applied is an error; create has no terminal to copy to."""
    bundle.process["terminal"] = True
    bundle.refused()
