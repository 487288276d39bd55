"""Frames of the native API, whatever they say (model/protocol.py has the layout)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_FRAME = 64 * 1024 * 1024  # bytes; a bound against a runaway peer, far above any real frame
MAX_FDS = 253  # SCM_MAX_FD of the kernel
HEADER = struct.Struct("!IH")


class FrameError(ValueError):
    """The peer does not speak this protocol."""


class FrameReader:
    """Bytes and fds in, whole frames out; knows no socket.

    feed() takes what one recvmsg gave; frames() yields (body, fds) for each complete frame. Fds that a frame claims
    but that did not come are a FrameError; the caller then closes the connection and `leftover()`.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: list[int]) -> None:
        self._buffer += data
        self._fds += fds

    def frames(self) -> Iterator[tuple[bytes, list[int]]]:
        while len(self._buffer) >= HEADER.size:
            length, count = HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise FrameError(f"frame of {length} bytes; at most {MAX_FRAME} are taken")
            if len(self._buffer) < HEADER.size + length:
                return
            if len(self._fds) < count:
                raise FrameError(f"frame announces {count} file descriptors, {len(self._fds)} came")
            body = bytes(self._buffer[HEADER.size : HEADER.size + length])
            del self._buffer[: HEADER.size + length]
            fds, self._fds = self._fds[:count], self._fds[count:]
            yield body, fds

    def leftover(self) -> list[int]:
        """The fds that no frame took; the caller closes them."""
        fds, self._fds = self._fds, []
        return fds
