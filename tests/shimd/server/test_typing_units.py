"""What a client pastes into a terminal comes whole, however much of it the terminal takes at once."""

import os
import select
import tty

import pytest

from shimd.server.loop import Loop
from shimd.server.terminal import TerminalStdin

PATIENCE = 30.0


@pytest.mark.parametrize("half_close", [False, True])
def test_a_paste_that_does_not_fit_at_once(half_close: bool) -> None:
    """The client says nothing after it, so that nothing but room in the terminal can move the rest."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    source, client = os.pipe()
    pasted = os.urandom(60_000)
    assert os.write(client, pasted) == len(pasted)
    loop = Loop()
    read = bytearray()

    def reads(events: int) -> None:
        read.extend(os.read(slave, 1000))
        if len(read) >= len(pasted):
            loop.stop()

    stdin = TerminalStdin(loop, master)
    assert stdin.take(source, False) == ""
    stdin.source_event(select.POLLIN)
    assert stdin.held, "the terminal took all of it: paste more"
    if half_close:
        assert stdin.close_when_drained()
    loop.watch(slave, select.POLLIN, reads)
    loop.at(PATIENCE, loop.stop)
    loop.run()
    assert bytes(read) == pasted
    for fd in (slave, client):
        os.close(fd)
    stdin.close()


def test_a_half_close_waits_for_what_is_held() -> None:
    """It was full when written to; when one looks why, it has been read."""
    master, slave = os.openpty()
    source, client = os.pipe()
    os.set_blocking(master, False)
    stdin = TerminalStdin(Loop(), master)
    assert stdin.take(source, False) == ""
    stdin.held = b"a line\n"
    stdin.closing = True
    stdin._wait()  # as pump() does after the terminal has refused it
    assert stdin.held == b"a line\n"
    stdin.reader_event(select.POLLOUT)
    assert os.read(slave, 100) == b"a line\n"
    assert os.read(slave, 100) == b"", "then its end-of-file character"
    for fd in (slave, client):
        os.close(fd)
    stdin.close()
