"""The shim's line to its supervisor: one socket at a time, never blocking, gone when the supervisor is.

The first one is the socketpair that came with Spawn; later ones are accepted on the path socket, where only root
gets in (a 0700 directory, and SO_PEERCRED is asked: CVE-2020-15257). The newest connection wins.
"""

from __future__ import annotations

import select
import struct
import sys
from _socket import SO_PEERCRED, SOL_SOCKET, socket
from collections.abc import Callable, Sequence

from shimd.server.loop import Loop
from shimd.wire import channel
from shimd.wire.codec import WireError, encode
from shimd.wire.messages import Message

RETRY_SECONDS = 1.0
Handler = Callable[[Message, list[int]], None]


class Peer:
    """send() what the supervisor should know; `handler` gets what it says."""

    __slots__ = ("end", "handler", "listener", "loop", "outbox")

    def __init__(self, loop: Loop, end: socket | None, listener: socket, handler: Handler) -> None:
        self.loop = loop
        self.listener = listener
        self.handler = handler
        self.outbox: list[tuple[bytes, list[int]]] = []
        """Packets, and fds of ours that ride along; they are closed once sent."""
        self.end: socket | None = None
        if end is not None:
            self._take(end)
        self._listen()

    @property
    def present(self) -> bool:
        return self.end is not None

    def _take(self, end: socket) -> None:
        self.drop()
        self.end = end
        end.setblocking(False)
        self.loop.watch(end.fileno(), select.POLLIN, self._event)

    def _listen(self) -> None:
        self.loop.watch(self.listener.fileno(), select.POLLIN, self._accept)

    def _accept(self, events: int) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # _socket has it; typeshed forgot
        except OSError as error:  # EMFILE: who connects waits until there is room; ECONNABORTED: it left again
            print(f"accept a supervisor: {error.strerror}", file=sys.stderr, flush=True)
            self.loop.unwatch(self.listener.fileno())
            self.loop.at(RETRY_SECONDS, self._listen)
            return
        end = channel.from_fd(fd)
        _, uid, _ = struct.unpack("3i", end.getsockopt(SOL_SOCKET, SO_PEERCRED, 12))
        if uid != 0:
            end.close()
            return
        self._take(end)

    def _event(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not events & ~select.POLLOUT or self.end is None:
            return
        try:
            received = channel.receive(self.end)
        except BlockingIOError:
            return
        except (OSError, WireError):  # reset, or no supervisor of ours: as good as gone
            received = None
        if received is None:
            self.drop()
        else:
            self.handler(*received)

    def drop(self) -> None:
        """The supervisor is gone; what it did not take is on disk or asked for again by Query."""
        if self.end is not None:
            self.loop.unwatch(self.end.fileno())
            self.end.close()
            self.end = None
        while self.outbox:
            channel.close_all(self.outbox.pop()[1])

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Queue and send what goes; without a supervisor nothing is kept. The fds are closed here."""
        if self.end is None:
            channel.close_all(fds)
            return
        self.outbox.append((encode(message), list(fds)))
        self._flush()

    def _flush(self) -> None:
        if self.end is None:
            return
        try:
            while self.outbox:
                packet, fds = self.outbox[0]
                self.end.sendmsg([packet], channel.rights(fds))
                channel.close_all(fds)
                del self.outbox[0]
        except BlockingIOError:
            self.loop.watch(self.end.fileno(), select.POLLIN | select.POLLOUT, self._event)
            return
        except OSError:  # EPIPE, ECONNRESET
            self.drop()
            return
        self.loop.watch(self.end.fileno(), select.POLLIN, self._event)

    def flushed(self) -> bool:
        return not self.outbox


def close_unused(fds: Sequence[int]) -> None:
    """Fds that came with a message which wants none."""
    channel.close_all(fds)
