"""A synchronous client of the native API.

    with Client("/run/asyncrt/asyncrt.sock") as client:
        for progress in client.run(Options(image="host:", args=("true",))):
            print(progress.step, progress.id)

One thread uses it at a time. Several calls may be open at once: each has its own Answer, and whoever waits
for one sorts the frames of the others into theirs. It waits in poll(2), where nothing has been read yet, so
an interruption (KeyboardInterrupt) there leaves the connection whole; an interruption in the middle of a
frame closes it.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import msgspec

from asyncrt.errors import AsyncrtError, BadRequest, Unavailable
from asyncrt.model.container import Container, Exit
from asyncrt.model.events import Event
from asyncrt.model.options import ExecOptions, Options
from asyncrt.model.protocol import (
    MAX_FDS,
    AnyRequest,
    Attach,
    Call,
    Create,
    Events,
    Exec,
    FrameError,
    FrameReader,
    Info,
    Inspect,
    Kill,
    List,
    Logs,
    Outcome,
    Pause,
    Progress,
    Remove,
    Run,
    Shutdown,
    Start,
    StatsOf,
    Stop,
    Top,
    Unpause,
    Update,
    Version,
    Wait,
    decode_reply,
    frame,
)
from asyncrt.model.stats import Process, Stats
from asyncrt.sdk.answer import Answer, close_all, each, typed

CHUNK = 256 * 1024  # bytes of one recvmsg
_SUBJECT = "the supervisor at "


class Client:
    """One connection to the supervisor. `timeout`: seconds without any frame after which a wait gives up."""

    def __init__(self, socket_path: str, timeout: float | None = None) -> None:
        self.path = socket_path
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._reader = FrameReader()
        self._answers: dict[int, Answer] = {}
        self._number = 0

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Unavailable where nobody listens; its __cause__ is the OSError."""
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(self.path)
        except OSError as error:
            link.close()
            raise _unreachable(self.path, error) from error
        except BaseException:
            link.close()
            raise
        self._socket = link

    def close(self) -> None:
        """Calls that still wait end as Unavailable; nothing that was done is undone."""
        self._lose("the connection was closed")

    def fileno(self) -> int:
        """For a selector: readable means that receive() will not block. -1 once it is closed."""
        return self._socket.fileno() if self._socket is not None else -1

    def call(self, request: AnyRequest, fds: Sequence[int] = ()) -> Answer:
        """Send a request, now. The fds stay the caller's, who may close them at once."""
        link = self._socket
        if link is None:
            raise Unavailable("ask", _SUBJECT + self.path, "the connection is closed")
        self._number += 1
        try:
            data = memoryview(frame(Call(self._number, request), len(fds)))
        except UnicodeEncodeError as error:  # an argument of this process whose bytes are no text
            raise BadRequest("send", "the request", "it holds text that is not UTF-8") from error
        answer = self._answers[self._number] = Answer(self._number, self.receive)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = link.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            if sent < len(data):
                link.sendall(data[sent:], socket.MSG_NOSIGNAL)
        except OSError as error:
            # What it had said before it went may still be read, but no answer to this will come.
            raise self._lose("supervisor went away") from error
        except BaseException:
            self._lose("interrupted in the middle of a request")
            raise
        return answer

    def receive(self, timeout: float | None = None) -> bool:
        """Take in what comes within `timeout` seconds (None: the client's), False if nothing did.

        The end of the connection is no error here: it is told to every answer that waits.
        """
        link = self._socket
        if link is None:
            return False
        patience = self._timeout if timeout is None else timeout
        poll = select.poll()
        poll.register(link, select.POLLIN)
        if not poll.poll(None if patience is None else max(0, patience) * 1000):
            if timeout is None:
                self._lose(f"no answer within {patience} s")
            return False
        try:
            self._take(link)
        except (FrameError, msgspec.DecodeError) as error:
            self._lose(f"it speaks another protocol: {error}")
        except OSError:
            self._lose("supervisor went away")
        except BaseException:
            self._lose("interrupted in the middle of an answer")
            raise
        return True

    def _take(self, link: socket.socket) -> None:
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        data, ancillary, flags, _ = link.recvmsg(CHUNK, space, socket.MSG_CMSG_CLOEXEC)
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
            answer = self._answers.get(reply.id)
            if answer is None:
                close_all(riders)
                continue
            answer.take(reply, riders)
            if answer.done:
                del self._answers[reply.id]

    def _lose(self, cause: str) -> AsyncrtError:
        """Close the connection and end what waits; returns the error that says so."""
        error = Unavailable("ask", _SUBJECT + self.path, cause, "its log: daemon.log in the state directory")
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
            close_all(self._reader.leftover())
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer.fail(error)
        return error

    # One helper per request, in the protocol's order.

    def version(self) -> dict[str, Any]:
        return typed(self.call(Version()).result(), dict[str, Any])

    def info(self) -> dict[str, Any]:
        return typed(self.call(Info()).result(), dict[str, Any])

    def create(self, options: Options, count: int = 1) -> Iterator[Progress]:
        return each(self.call(Create(options, count)), Progress)

    def run(
        self, options: Options, count: int = 1, attach: bool = False, fds: Sequence[int] = ()
    ) -> Iterator[Progress]:
        """Create and start; with `attach` the fds are [stdin] stdout stderr, and stdin's EOF is the container's."""
        return each(self.call(Run(options, count, attach, attach), fds), Progress)

    def start(self, refs: Iterable[str]) -> Iterator[Progress]:
        return each(self.call(Start(tuple(refs))), Progress)

    def containers(self, all: bool = False) -> list[Container]:
        """Running ones, or all."""
        chunks = each(self.call(List(all)), list[Container])
        return [container for chunk in chunks for container in chunk]

    def inspect(self, refs: Iterable[str]) -> list[Container]:
        return typed(self.call(Inspect(tuple(refs))).result(), list[Container])

    def wait(self, refs: Iterable[str]) -> list[Progress]:
        """How each ended, in the order asked; blocks until the last has."""
        return typed(self.call(Wait(tuple(refs))).result(), list[Progress])

    def kill(self, refs: Iterable[str], signal: int = 9) -> Iterator[Outcome]:
        return each(self.call(Kill(tuple(refs), signal)), Outcome)

    def stop(self, refs: Iterable[str], timeout: float = 10.0) -> Iterator[Outcome]:
        """SIGTERM, then SIGKILL after `timeout` seconds."""
        return each(self.call(Stop(tuple(refs), timeout)), Outcome)

    def remove(self, refs: Iterable[str] = (), force: bool = False, all: bool = False) -> Iterator[Outcome]:
        return each(self.call(Remove(tuple(refs), force, all)), Outcome)

    def pause(self, refs: Iterable[str]) -> Iterator[Outcome]:
        return each(self.call(Pause(tuple(refs))), Outcome)

    def unpause(self, refs: Iterable[str]) -> Iterator[Outcome]:
        return each(self.call(Unpause(tuple(refs))), Outcome)

    def update(self, wish: Update) -> Iterator[Outcome]:
        return each(self.call(wish), Outcome)

    def stats(self, refs: Iterable[str] = (), interval: float = 1.0, stream: bool = False) -> Iterator[list[Stats]]:
        """Samples of those named, or of all that run: once, or every `interval` seconds."""
        return each(self.call(StatsOf(tuple(refs), interval, stream)), list[Stats])

    def top(self, ref: str) -> list[Process]:
        return typed(self.call(Top(ref)).result(), list[Process])

    def logs(self, ref: str) -> dict[str, int]:
        """Open fds by name: stdout, stderr, index, those that exist. The caller closes them."""
        answer = self.call(Logs(ref))
        files: dict[str, int] = {}
        for names, fds in answer:
            files.update(zip(typed(names, list[str]), fds, strict=False))
        return files

    def attach(self, ref: str, fds: Sequence[int], stdin: bool = False, stdout: int = 0, stderr: int = 0) -> None:
        """Subscribe fds ([stdin] [stdout] [stderr], pipe ends) from these offsets; returns once it is so."""
        self.call(Attach(ref, stdin, stdout, stderr), fds).result()

    def execute(self, ref: str, options: ExecOptions, fds: Sequence[int]) -> Answer:
        """Exec with stdin, stdout, stderr. Item: {"exec", "pid"}; `exit_of(answer)` waits for the end."""
        return self.call(Exec(ref, options), fds)

    def events(self, after: int = -1, follow: bool = True) -> Iterator[Event]:
        return each(self.call(Events(after, follow)), Event)

    def shutdown(self) -> int:
        """The pid of the supervisor that ends; wait_closed() returns once it is gone."""
        return int(typed(self.call(Shutdown()).result(), dict[str, int]).get("supervisor_pid", 0))

    def wait_closed(self, timeout: float) -> bool:
        """Whether the supervisor closed the connection, within `timeout` seconds without a frame."""
        while self._socket is not None:
            if not self.receive(timeout):
                return False
        return True


def exit_of(answer: Answer) -> Exit:
    """How an exec ended; blocks."""
    return typed(answer.result(), Exit)


def _unreachable(path: str, error: OSError) -> Unavailable:
    mend = "start one with: asyncrt daemon"
    if error.errno == errno.ENOENT:
        cause = "no such socket"
    elif error.errno == errno.ECONNREFUSED:
        cause = "nobody listens there"
    elif error.errno in (errno.EACCES, errno.EPERM):
        cause, mend = "permission denied", "asyncrt needs root"
    elif error.errno is None:  # what Python itself refuses: AF_UNIX path too long, unix(7): 107 bytes
        cause, mend = str(error).lower(), "choose a shorter --socket"
    else:
        cause = os.strerror(error.errno).lower()
    return Unavailable("connect to", _SUBJECT + path, cause, mend)
