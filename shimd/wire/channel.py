"""One SOCK_SEQPACKET socket, blocking: a message a packet, file descriptors beside it (unix(7), SCM_RIGHTS).

For zygote, shim and init. The supervisor does the same on trio sockets with `encode`, `decode` and `fds_of`.

The sockets are _socket's, which the standard library's socket.socket is a Python shell around: the shell's classes
and enums would be touched by every shim, and what a shim touches is memory of its own (about 150 KiB here).
"""

from __future__ import annotations

import array
import contextlib
import os
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_TRUNC,
    SCM_RIGHTS,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)
from collections.abc import Iterable, Sequence

from shimd.wire.codec import WireError, decode, encode
from shimd.wire.messages import MAX_PACKET, Message

MAX_FDS = 253  # SCM_MAX_FD of the kernel
ANCILLARY = CMSG_SPACE(MAX_FDS * 4)
# Where packets arrive, made once: a fresh buffer of this size has malloc tidy up its whole heap, which in a shim makes
# a quarter of a MiB its own.
_buffer = memoryview(bytearray(MAX_PACKET))


def pair() -> tuple[socket, socket]:
    """Two connected ends, close-on-exec."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET, 0)


def from_fd(fd: int) -> socket:
    """The socket that an fd is; it takes the fd over."""
    return socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)


def rights(fds: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data that carries fds."""
    return [(SOL_SOCKET, SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []


def fds_of(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The fds in received ancillary data; the caller owns them."""
    received: list[int] = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            received.extend(numbers)
    return received


def close_all(fds: Iterable[int]) -> None:
    """Close fds that nobody took."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def send(end: socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Send one message; raises OSError (EPIPE, EMSGSIZE) as the socket does."""
    if fds:
        end.sendmsg([encode(message)], rights(fds))
    else:
        end.send(encode(message))


def receive(end: socket) -> tuple[Message, list[int]] | None:
    """The next message and its fds (close-on-exec, the caller's); None at EOF. WireError for a foreign packet."""
    size, ancillary, flags, _ = end.recvmsg_into([_buffer], ANCILLARY, MSG_CMSG_CLOEXEC)
    fds = fds_of(ancillary)
    packet = bytes(_buffer[:size])
    if not packet:
        close_all(fds)
        return None
    if flags & (MSG_TRUNC | MSG_CTRUNC):
        close_all(fds)
        raise WireError("packet or its file descriptors were cut")
    try:
        return decode(packet), fds
    except WireError:
        close_all(fds)
        raise
