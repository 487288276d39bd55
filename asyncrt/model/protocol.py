"""The native API: msgpack frames on a unix stream socket, file descriptors beside them.

    client                                        supervisor
      | -- Call(id, request) [+fds] ----------------> |
      | <- Item(id, value) [+fds] ------------------- |   none or many
      | <- End(id, value)  or  Failure(id, error) --- |   exactly one

A frame is `length` (u32, big-endian, of the body), `fds` (u16: how many ride along), then the body. Requests of one
connection run concurrently; closing it cancels those that wait, and nothing that was done is undone. The fds of a
frame ride on its first byte (unix(7), SCM_RIGHTS).

What each request answers:

    Info, Version       End: a dict
    Create, Run         Item: Progress per step and container; End: the ids
    Start               Item: Progress; End: the ids
    List                Item: a list of Container (chunks); End
    Inspect             End: a list of Container
    Wait                Item: Progress (ended) as they end; End: list of Progress in the order asked
    Kill, Stop, Remove  Item: Outcome per container; End
    Logs                Item with fds stdout, stderr, index (those that exist; `value` is the list of their names)
    Attach              fds: [stdin] [stdout] [stderr]; End once subscribed
    Exec                fds: stdin, stdout, stderr; Item: {"exec": id, "pid": n}; End: Exit
    Events              Item: Event; End only with follow=False
    Shutdown            End: {"supervisor_pid": n}; the supervisor is gone when the connection closes
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from asyncrt.model.container import Exit
from asyncrt.model.options import ExecOptions, Options

VERSION = 1
MAX_FRAME = 64 * 1024 * 1024  # bytes; a bound against a runaway peer, far above any real frame
MAX_FDS = 253  # SCM_MAX_FD of the kernel
HEADER = struct.Struct("!IH")


class Request(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all requests are; the tag is the class name."""


class Version(Request, frozen=True):
    pass


class Info(Request, frozen=True):
    pass


class Create(Request, frozen=True):
    """Create `count` containers; names get -1, -2 ... behind when there are several."""

    options: Options
    count: int = 1


class Run(Request, frozen=True):
    """Create and start. `attach`: the frame brings fds [stdin] stdout stderr (count 1 only)."""

    options: Options
    count: int = 1
    attach: bool = False


class Start(Request, frozen=True):
    refs: tuple[str, ...]


class List(Request, frozen=True):
    """Running containers, or all."""

    all: bool = False


class Inspect(Request, frozen=True):
    refs: tuple[str, ...]


class Wait(Request, frozen=True):
    refs: tuple[str, ...]


class Kill(Request, frozen=True):
    refs: tuple[str, ...]
    signal: int = 9


class Stop(Request, frozen=True):
    """SIGTERM, then SIGKILL after `timeout` seconds."""

    refs: tuple[str, ...]
    timeout: float = 10.0


class Remove(Request, frozen=True):
    """`force` kills what runs; `all` takes every container instead of refs."""

    refs: tuple[str, ...] = ()
    force: bool = False
    all: bool = False


class Logs(Request, frozen=True):
    ref: str


class Attach(Request, frozen=True):
    """Offsets in bytes from the beginning; -1: not this stream; -2: from now."""

    ref: str
    stdin: bool = False
    stdout: int = 0
    stderr: int = 0


class Exec(Request, frozen=True):
    ref: str
    options: ExecOptions


class Events(Request, frozen=True):
    """Events after sequence number `after` (-1: only new ones)."""

    after: int = -1
    follow: bool = True


class Shutdown(Request, frozen=True):
    pass


AnyRequest = (
    Version
    | Info
    | Create
    | Run
    | Start
    | List
    | Inspect
    | Wait
    | Kill
    | Stop
    | Remove
    | Logs
    | Attach
    | Exec
    | Events
    | Shutdown
)


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of one container. `step` is created, started, failed or ended."""

    step: str
    id: str
    name: str
    index: int = 0
    pid: int = 0
    timeline: tuple[tuple[str, int], ...] = ()
    exit: Exit | None = None
    error: dict[str, str | int] | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a deed on `ref` came to."""

    ref: str
    id: str = ""
    error: dict[str, str | int] | None = None


class Call(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    id: int
    request: AnyRequest


class Item(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    id: int
    value: Any = None


class End(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    id: int
    value: Any = None


class Failure(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    id: int
    error: dict[str, str | int]


Reply = Item | End | Failure

_encoder = msgspec.msgpack.Encoder()
_calls = msgspec.msgpack.Decoder(Call)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Item | End | Failure)


def frame(message: Call | Item | End | Failure, fds: int = 0) -> bytes:
    """The bytes of one frame that `fds` descriptors ride with."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body), fds) + body


def decode_call(body: bytes) -> Call:
    """msgspec.ValidationError names the path of what is wrong."""
    return _calls.decode(body)


def decode_reply(body: bytes) -> Reply:
    return _replies.decode(body)


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
