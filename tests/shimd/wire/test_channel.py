"""Packets and the fds beside them."""

import fcntl
import os
from _socket import SO_SNDBUF, SOL_SOCKET, socket
from collections.abc import Iterator

import pytest

from shimd.wire import channel
from shimd.wire.codec import WireError
from shimd.wire.messages import MAX_PACKET, Exec, Forget, Go, Hello


@pytest.fixture
def ends() -> Iterator[tuple[socket, socket]]:
    pair = channel.pair()
    yield pair
    for end in pair:
        end.close()


Ends = tuple[socket, socket]


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_fds_travel_and_are_close_on_exec(ends: Ends) -> None:
    ours, theirs = ends
    read, write = os.pipe()
    channel.send(ours, Go(), [write, read])
    received = channel.receive(theirs)
    assert received is not None
    message, fds = received
    assert message == Go()
    os.write(fds[0], b"x")
    assert os.read(fds[1], 1) == b"x"
    assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in fds)
    channel.close_all([*fds, read, write])


def test_a_packet_is_a_message(ends: Ends) -> None:
    ours, theirs = ends
    for number in range(3):
        channel.send(ours, Hello(number, 1))
    assert [channel.receive(theirs) for _ in range(3)] == [(Hello(number, 1), []) for number in range(3)]


def test_eof(ends: Ends) -> None:
    ours, theirs = ends
    channel.send(ours, Go())
    ours.close()
    assert channel.receive(theirs) == (Go(), [])
    assert channel.receive(theirs) is None


def test_ends_are_close_on_exec(ends: Ends) -> None:
    assert all(fcntl.fcntl(end.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC for end in ends)


def test_fds_of_a_foreign_packet_are_closed(ends: Ends) -> None:
    ours, theirs = ends
    read, write = os.pipe()
    ours.sendmsg([b"nonsense"], channel.rights([read, write]))
    before = open_fds()
    with pytest.raises(WireError):
        channel.receive(theirs)
    assert open_fds() == before
    channel.close_all([read, write])


def test_a_packet_that_is_too_long(ends: Ends) -> None:
    ours, theirs = ends
    ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4 * MAX_PACKET)
    read, write = os.pipe()
    ours.sendmsg([bytes(MAX_PACKET + 1)], channel.rights([read, write]))
    before = open_fds()
    with pytest.raises(WireError, match="cut"):
        channel.receive(theirs)
    assert open_fds() == before
    channel.close_all([read, write])


def test_the_longest_packet_fits_the_default_buffer(ends: Ends) -> None:
    ours, theirs = ends
    message = Forget("x" * (MAX_PACKET - 64))
    channel.send(ours, message)
    assert channel.receive(theirs) == (message, [])


def test_as_many_fds_as_the_kernel_allows(ends: Ends) -> None:
    ours, theirs = ends
    channel.send(ours, Exec(1, "e", {}), [0] * channel.MAX_FDS)
    received = channel.receive(theirs)
    assert received is not None
    assert len(received[1]) == channel.MAX_FDS
    channel.close_all(received[1])


def test_nobody_at_the_other_end(ends: Ends) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(BrokenPipeError):
        channel.send(ours, Go())


def test_an_empty_packet_is_the_end_for_whoever_reads(ends: Ends) -> None:
    """SEQPACKET cannot tell it from EOF; nobody of ours sends one."""
    ours, theirs = ends
    ours.send(b"")
    assert channel.receive(theirs) is None
