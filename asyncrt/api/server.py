"""Connections: frames in, requests served side by side, frames out. Closing one cancels what waits on it.

Only root gets in: the socket lies in a 0700 directory and SO_PEERCRED is asked (unix(7); CVE-2020-15257).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from asyncrt.api.handlers import serve
from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, BadRequest
from asyncrt.model.protocol import (
    MAX_FDS,
    Call,
    End,
    Failure,
    FrameError,
    FrameReader,
    Item,
    Shutdown,
    decode_call,
    frame,
)
from shimd.wire.channel import close_all, fds_of, rights

RECEIVE = 1 << 16
BACKLOG = 512  # many commands may knock at once
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
_log = structlog.get_logger("asyncrt.api")


def listen(path: str) -> socket.socket:
    """The bound and listening socket. OSError as bind(2) has it: ENAMETOOLONG beyond 107 bytes, EADDRINUSE."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(path).is_socket():  # a predecessor's; the lock on the state directory says that it is dead
            Path(path).unlink()
        listener.bind(path)
        Path(path).chmod(0o600)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


async def serve_connections(engine: Engine, listener: socket.socket, stopping: trio.Event) -> None:
    """Accept until cancelled; a Shutdown request sets `stopping`."""
    door = trio.socket.from_stdlib_socket(listener)
    async with trio.open_nursery() as nursery:
        while True:
            end, _ = await door.accept()
            credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            _, uid, _ = struct.unpack("3i", credentials)
            if uid != 0:
                _log.warning("refused a connection", uid=uid)
                end.close()
                continue
            nursery.start_soon(Connection(engine, end, stopping).run)


class Connection:
    """One client. Each request is a job of its own; their frames do not mix."""

    def __init__(self, engine: Engine, end: trio.socket.SocketType, stopping: trio.Event) -> None:
        self._engine = engine
        self._end = end
        self._stopping = stopping
        self._sending = trio.Lock()

    async def run(self) -> None:
        reader = FrameReader()
        try:
            with self._end:
                async with trio.open_nursery() as nursery:
                    await self._read(reader, nursery)
                    nursery.cancel_scope.cancel()
        except* (OSError, trio.ClosedResourceError):
            _log.debug("a client went away")
        except* FrameError as errors:
            _log.warning("a client speaks another language", error=str(errors.exceptions[0]))
        finally:
            close_all(reader.leftover())

    async def _read(self, reader: FrameReader, nursery: trio.Nursery) -> None:
        while True:
            data, ancillary, _, _ = await self._end.recvmsg(RECEIVE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            reader.feed(data, fds_of(ancillary))
            if not data:
                return
            for body, fds in reader.frames():
                try:
                    call = decode_call(body)
                except (msgspec.ValidationError, msgspec.DecodeError) as error:
                    close_all(fds)
                    await self._refuse(body, error)
                    continue
                nursery.start_soon(self._serve, call, fds)

    async def _refuse(self, body: bytes, error: Exception) -> None:
        """Answer a request that cannot be read, if at least its number can."""
        try:
            id = int(msgspec.msgpack.decode(body)[1])
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError):
            raise FrameError(str(error)) from error
        await self._send(Failure(id, BadRequest("read", "request", str(error)).to_dict()))

    async def _serve(self, call: Call, fds: list[int]) -> None:
        async def item(value: Any, fds: Sequence[int] = ()) -> None:
            await self._send(Item(call.id, value), fds)

        try:
            if isinstance(call.request, Shutdown):
                await self._send(End(call.id, {"supervisor_pid": os.getpid()}))
                self._stopping.set()
                return
            answer: End | Failure = End(call.id, await serve(self._engine, call.request, fds, item))
        except AsyncrtError as error:
            answer = Failure(call.id, error.to_dict())
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:  # noqa: BLE001 # one client's surprise must not end the supervisor
            _log.exception("a request failed in a way that nobody foresaw", request=type(call.request).__name__)
            foreseen = AsyncrtError("serve", type(call.request).__name__, f"{type(error).__name__}: {error}")
            answer = Failure(call.id, foreseen.to_dict())
        finally:
            close_all(fds)
        await self._send(answer)

    async def _send(self, message: Item | End | Failure, fds: Sequence[int] = ()) -> None:
        data = memoryview(frame(message, len(fds)))
        async with self._sending:
            sent = await self._end.sendmsg([data], rights(fds))
            while sent < len(data):
                sent += await self._end.send(data[sent:])
