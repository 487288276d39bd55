"""A SEQPACKET socket in trio: whole messages with their fds."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path

import trio

from shimd.wire.channel import ANCILLARY, close_all, fds_of, rights
from shimd.wire.codec import WireError, decode, encode
from shimd.wire.messages import MAX_PACKET, Message


class Line:
    """One end. send() may be called by several jobs: a packet is whole by itself."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(end)
        self._sending = trio.Lock()  # trio lets one job at a time wait for a socket

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """OSError (EPIPE, ECONNRESET) when the other end is gone; trio.ClosedResourceError when this one is."""
        packet = encode(message)
        async with self._sending:
            await self._socket.sendmsg([packet], rights(fds))

    async def receive(self) -> tuple[Message, list[int]] | None:
        """The next message and its fds, which are the caller's; None when the other end is gone or this one closed.

        WireError for a packet that is none of ours.
        """
        while True:
            try:
                packet, ancillary, _, _ = await self._socket.recvmsg(MAX_PACKET, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
                break
            except ConnectionResetError:
                # It left with something of ours unread. The kernel says so once, before what it still had to tell us.
                continue
            except (OSError, trio.ClosedResourceError):
                return None
        fds = fds_of(ancillary)
        if not packet:
            close_all(fds)
            return None
        try:
            return decode(packet), fds
        except WireError:
            close_all(fds)
            raise

    def close(self) -> None:
        self._socket.close()


async def connect(path: Path) -> Line:
    """A line to a listening path socket. OSError: ENOENT or ECONNREFUSED mean that nobody is there.

    By way of the directory's fd, since sun_path holds 107 bytes and a state directory may be deep.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    end = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        await end.connect(f"/proc/self/fd/{directory}/{path.name}")
        return Line(socket.socket(fileno=end.detach()))
    except BaseException:
        end.close()
        raise
    finally:
        os.close(directory)
