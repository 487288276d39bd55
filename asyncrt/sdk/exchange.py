"""The calls that are open on one connection: requests out, replies sorted to whom they answer.

    exchange.open(request, Answer)    -> the answer, and the bytes that ask for it
    exchange.take()                   what one recvmsg(2) brings goes to the answers
    exchange.lose("went away")        every answer that waits ends as Unavailable

It does not wait: its owner does, in poll(2) (blocking.py) or in an event loop (connection.py).
"""

from __future__ import annotations

import array
import contextlib
import errno
import socket
from collections.abc import Callable, Sequence

import msgspec

from asyncrt.errors import BadRequest, Unavailable
from asyncrt.model.protocol import MAX_FDS, AnyRequest, Call, FrameError, FrameReader, decode_reply, frame
from asyncrt.sdk.answer import Mail, MailT, close_all

CHUNK = 256 * 1024  # bytes of one recvmsg
_SPACE = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)


class Exchange:
    """Owns the socket. `lost` is the error that every further call ends with, once there is one."""

    def __init__(self, link: socket.socket, path: str) -> None:
        self.link = link
        self.lost: Unavailable | None = None
        self._subject = f"the supervisor at {path}"
        self._reader = FrameReader()
        self._open: dict[int, Mail] = {}
        self._number = 0

    def open(self, request: AnyRequest, make: Callable[[int], MailT], fds: int = 0) -> tuple[MailT, memoryview]:
        """A new answer and the frame to send for it; Unavailable once the connection is lost."""
        if self.lost is not None:
            raise Unavailable("ask", self._subject, "the connection is closed")
        self._number += 1
        try:
            data = memoryview(frame(Call(self._number, request), fds))
        except UnicodeEncodeError as error:  # an argument of this process whose bytes are no text
            raise BadRequest("send", "the request", "it holds text that is not UTF-8") from error
        answer = self._open[self._number] = make(self._number)
        return answer, data

    def send(self, data: memoryview, fds: Sequence[int]) -> memoryview:
        """What is left of a frame after one sendmsg(2), with which the fds go. OSError as that has it."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        return data[self.link.sendmsg([data], rights, socket.MSG_NOSIGNAL) :]

    def take(self) -> None:
        """What one recvmsg brings. The end of the connection is no error here: every answer that waits is told.

        BlockingIOError where nothing is there yet and the socket is non-blocking.
        """
        try:
            self._take()
        except BlockingIOError:
            raise
        except (FrameError, msgspec.DecodeError) as error:
            self.lose(f"it speaks another protocol: {error}")
        except OSError:
            self.lose("supervisor went away")
        except BaseException:
            self.lose("interrupted in the middle of an answer")
            raise

    def _take(self) -> None:
        data, ancillary, flags, _ = self.link.recvmsg(CHUNK, _SPACE, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        self._reader.feed(data, fds.tolist())
        if flags & socket.MSG_CTRUNC:
            raise FrameError("file descriptors were cut off (is RLIMIT_NOFILE reached?)")
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "end of stream")
        for body, riders in self._reader.frames():
            try:
                reply = decode_reply(body)
            except BaseException:
                close_all(riders)
                raise
            answer = self._open.get(reply.id)
            if answer is None:
                close_all(riders)
                continue
            answer.take(reply, riders)
            if answer.done:
                del self._open[reply.id]

    def lose(self, cause: str) -> Unavailable:
        """Close the connection and end what waits; the error that says so. Safe to repeat: the first cause stays."""
        if self.lost is None:
            hint = "its log: daemon.log in the state directory"
            self.lost = Unavailable("ask", self._subject, cause, hint)
            with contextlib.suppress(OSError):
                self.link.close()
            close_all(self._reader.leftover())
        answers, self._open = self._open, {}
        for answer in answers.values():
            answer.fail(self.lost)
        return self.lost
