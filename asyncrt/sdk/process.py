"""One more process in a container: exec.

    async with container.exec(["cat"]) as process:
        await process.stdin.send(b"x")
        await process.stdin.aclose()
        assert await process.stdout.read() == b"x"
        assert (await process.wait()).code == 0

Its streams are ours, with nobody in between. Leaving the block kills what still runs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import anyio

from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject, Unavailable
from asyncrt.model.container import Exit
from asyncrt.model.options import ExecOptions
from asyncrt.model.protocol import Exec, KillExec, Resize, WaitExec
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.connection import AsyncAnswer, Reach
from asyncrt.sdk.deadlines import within
from asyncrt.sdk.pipes import Sink, Source
from asyncrt.sdk.streams import ATTEMPTS, PipeStream

CLEAN_UP_SECONDS = 30.0  # that a killed process may take to end


class Streams(NamedTuple):
    """Our ends."""

    stdin: Sink
    stdout: PipeStream
    stderr: PipeStream

    @classmethod
    def piped(cls) -> tuple[Streams, list[int]]:
        """Three pipes, and the ends for the process: stdin, stdout, stderr."""
        (read_in, stdin), (stdout, write_out), (stderr, write_err) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
        ours = cls(Sink(stdin, "stdin of the exec"), PipeStream(Source(stdout)), PipeStream(Source(stderr)))
        return ours, [read_in, write_out, write_err]

    @classmethod
    def of_terminal(cls, master: int) -> Streams:
        """Both ways over its master; stderr is at its end."""
        nothing, end = os.pipe2(os.O_CLOEXEC)
        os.close(end)
        stdin = Sink(os.dup(master), "the terminal of the exec", terminal=True)
        return cls(stdin, PipeStream(Source(master)), PipeStream(Source(nothing)))


class Process:
    """A running exec. With a terminal stdout is its one stream, and stderr is at its end from the beginning."""

    def __init__(self, reach: Reach, container: str, streams: Streams | None) -> None:
        self.id = ""
        self.pid = 0
        """In the machine's pid namespace."""
        self.exit: Exit | None = None
        """How it ended, once wait() has told."""
        self._reach = reach
        self._container = container
        self._streams = streams
        self._answer: AsyncAnswer | None = None
        self._waiting = anyio.Lock()

    @property
    def stdin(self) -> Sink:
        """A send stream; aclose() is the half-close."""
        return self._ours.stdin

    @property
    def stdout(self) -> PipeStream:
        return self._ours.stdout

    @property
    def stderr(self) -> PipeStream:
        return self._ours.stderr

    @property
    def _ours(self) -> Streams:
        assert self._streams is not None
        return self._streams

    @property
    def _name(self) -> str:
        return f"exec {self.id[:12]}"

    async def wait(self, timeout: float | None = None) -> Exit:
        """How it ended, also where a supervisor died meanwhile. TimedOut after `timeout` seconds."""
        with within(timeout, "wait for", self._name):
            async with self._waiting:
                if self.exit is None:
                    self.exit = await self._ended()
        return self.exit

    async def _ended(self) -> Exit:
        assert self._answer is not None
        try:
            return typed(await self._answer.result(), Exit)
        except Unavailable as error:
            lost = error
        for _ in range(ATTEMPTS):
            try:
                return typed(await self._reach.ask(WaitExec(self._container, self.id)), Exit)
            except Unavailable as error:
                lost = error
        raise lost

    async def kill(self, signal: int = 9, timeout: float | None = None) -> None:
        """Send a signal. Conflict if it does not run any more, TimedOut after `timeout` seconds."""
        with within(timeout, "kill", self._name):
            await self._reach.ask(KillExec(self._container, self.id, signal))

    async def resize(self, rows: int, columns: int, timeout: float | None = None) -> None:
        """Set its terminal's size in characters. Conflict if it has none, TimedOut after `timeout` seconds."""
        with within(timeout, "resize", self._name):
            await self._reach.ask(Resize(self._container, rows, columns, self.id))

    async def _begin(self, options: ExecOptions, theirs: list[int]) -> None:
        try:
            self._answer, _ = await self._reach.call(Exec(self._container, options), theirs)
        finally:
            close_all(theirs)  # as long as they are open here our end sees no end
        await self._begun()

    async def _begun(self) -> None:
        """It runs: who it is, and with a terminal its master. Raises StartFailed, Conflict, Unavailable."""
        assert self._answer is not None
        async for value, fds in self._answer:
            told = typed(value, dict[str, Any])
            self.id, self.pid = str(told["exec"]), int(told["pid"])
            if self._streams is None:
                self._streams = Streams.of_terminal(fds.pop())
            close_all(fds)
            return
        raise Unavailable("exec in", self._container[:12], "the supervisor did not say that it began")

    async def _end(self) -> None:
        """Kill what still runs; bounded, whatever the scopes around say."""
        with anyio.CancelScope(shield=True), within(CLEAN_UP_SECONDS, "kill", self._name):
            if not self.id and self._answer is not None:  # whoever asked was cancelled before it was heard of
                with contextlib.suppress(AsyncrtError):
                    await self._begun()
            if self.id and self.exit is None:
                with contextlib.suppress(Conflict, NoSuchObject):
                    await self.kill()
                with contextlib.suppress(Conflict, NoSuchObject):
                    await self.wait()

    def _let_go(self) -> None:
        if self._answer is not None:
            self._answer.close()
        if self._streams is not None:
            for stream in self._streams:
                stream.close()


@contextlib.asynccontextmanager
async def running(
    reach: Reach, container: str, options: ExecOptions, timeout: float | None = None
) -> AsyncIterator[Process]:
    """The process while the block lasts. Raises StartFailed (126, 127), Conflict, TimedOut, Unavailable."""
    streams, theirs = (None, list[int]()) if options.tty else Streams.piped()
    process = Process(reach, container, streams)
    try:
        with within(timeout, "exec in", container[:12]):
            await process._begin(options, theirs)
        yield process
    except BaseException as error:
        try:
            await process._end()
        except AsyncrtError as trouble:
            error.add_note(f"left behind: {trouble}")
        raise
    else:
        await process._end()
    finally:
        process._let_go()
