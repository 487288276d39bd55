"""A container's output and input, as anyio's byte streams.

    async for chunk in container.stdout: ...            bytes as they come
    async for line in container.stdout.lines(): ...     str, without its line end
    await container.stdin.send(b"2+2\\n")
    await container.stdin.aclose()                       half-close: the container reads the end

The bytes come straight from the container's shim through a pipe. Nobody is held up by a reader that is slow or never
comes: the container's log keeps the rest, and the pipe is all that is in memory. When the supervisor dies in between,
the reader goes on where it was.
"""

from __future__ import annotations

import abc
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from asyncrt.errors import StorageFailed, Unavailable
from asyncrt.sdk.connection import Connection
from asyncrt.sdk.pipes import CHUNK, Sink, Source

LONGEST_LINE = 1 << 20  # bytes of a line that has not ended yet; a longer one comes in pieces
ATTEMPTS = 5  # supervisors that may die one after another while we subscribe


class ByteStream(ByteReceiveStream):
    """Bytes in order. `offset` counts those that were handed out."""

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self._held = bytearray()  # read in search of a line end, and not handed out yet
        self._guard = anyio.ResourceGuard("reading from")

    @abc.abstractmethod
    async def _more(self, most: int) -> bytes:
        """The next bytes, b"" at the end."""

    async def receive(self, max_bytes: int = CHUNK) -> bytes:
        """At least one byte. anyio.EndOfStream at the end."""
        with self._guard:
            data = self._cut(max_bytes) if self._held else await self._more(max_bytes)
        if not data:
            raise anyio.EndOfStream
        self.offset += len(data)
        return data

    async def read(self, limit: int | None = None) -> bytes:
        """All until the end, or `limit` bytes where that is reached first.

        Raises what receive() does, but for the end.
        """
        pieces, size = list[bytes](), 0
        try:
            while limit is None or size < limit:
                pieces.append(await self.receive(CHUNK if limit is None else min(CHUNK, limit - size)))
                size += len(pieces[-1])
        except anyio.EndOfStream:
            pass
        return b"".join(pieces)

    async def receive_line(self, limit: int = LONGEST_LINE) -> bytes:
        """A line without its line end, or `limit` bytes of one that is longer. anyio.EndOfStream at the end.

        What comes after the last line end is a line, too. A cancelled wait loses nothing.
        """
        searched = 0
        with self._guard:
            while (found := self._held.find(b"\n", searched, limit + 1)) < 0 and len(self._held) <= limit:
                searched = len(self._held)
                data = await self._more(CHUNK)
                if not data:
                    break
                self._held += data
        if found < 0 and not self._held:
            raise anyio.EndOfStream
        line = self._cut(found if found >= 0 else limit)
        self.offset += len(line) + (found >= 0)
        if found >= 0:
            del self._held[:1]
        return line

    def lines(self, encoding: str = "utf-8", errors: str = "replace", limit: int = LONGEST_LINE) -> AsyncIterator[str]:
        """The lines as text, without their line ends; one longer than `limit` bytes comes in pieces.

        May be left and asked for anew: the next line is the next one.
        """
        return _Lines(self, encoding, errors, limit)

    def _cut(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data


class _Lines(AsyncIterator[str]):
    def __init__(self, stream: ByteStream, encoding: str, errors: str, limit: int) -> None:
        self._stream = stream
        self._encoding = encoding
        self._errors = errors
        self._limit = limit

    async def __anext__(self) -> str:
        try:
            line = await self._stream.receive_line(self._limit)
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        return line.decode(self._encoding, self._errors)


class PipeStream(ByteStream):
    """An exec's stdout or stderr: the pipe is all there is."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    async def _more(self, most: int) -> bytes:
        return await self._source.receive(most)

    async def aclose(self) -> None:
        """Take no further interest: who writes gets EPIPE."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As aclose()."""
        self._source.close()


class Subscription(NamedTuple):
    """A pipe that carries the stream from `offset` on, and the supervisor that was asked for it."""

    source: Source
    offset: int
    link: Connection


class Output(ByteStream):
    """A container's stdout or stderr, from an offset into its log on; bytes of the whole stream count.

    Subscribes when it is first read, and again where the last subscription ended before the stream did.
    """

    def __init__(
        self,
        subscribe: Callable[[int], Awaitable[Subscription]],
        over: Callable[[int, Subscription], Awaitable[bool]],
        offset: int,
        name: str,
    ) -> None:
        super().__init__(max(0, offset))
        self._name = name
        self._subscribe = subscribe
        self._over = over
        self._asked = offset
        self._taken = max(0, offset)
        self._now: Subscription | None = None
        self._ended = False

    async def _more(self, most: int) -> bytes:
        silent = 0
        while not self._ended:
            if self._now is None:
                self._now = await self._subscribed()
            data = await self._now.source.receive(most)
            if data:
                self._taken += len(data)
                return data
            now, self._now, self._asked = self._now, None, self._taken
            now.source.close()
            silent += 1
            self._ended = await self._over(self._taken, now)
            if not self._ended and silent > ATTEMPTS:
                cause = f"its log ends at byte {self._taken}, before it did"
                raise StorageFailed("read", self._name, cause)
        return b""

    async def _subscribed(self) -> Subscription:
        for attempt in range(ATTEMPTS):
            try:
                now = await self._subscribe(self._asked)
            except Unavailable:
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            if self._asked < 0:  # from now, or from the oldest: only the shim knows where that is
                self.offset = self._taken = self._asked = now.offset
            return now
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Take no further interest. The container does not notice."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As aclose()."""
        self._ended = True
        if self._now is not None:
            self._now.source.close()
            self._now = None


class Input(ByteSendStream):
    """A container's stdin. It attaches when it is first written to; one client at a time feeds a container."""

    def __init__(self, attach: Callable[[int], Awaitable[None]], half_close: Callable[[], Awaitable[None]], name: str):
        self._attach = attach
        self._half_close = half_close
        self._name = name
        self._sink: Sink | None = None
        self._closed = False
        self._opening = anyio.Lock()

    async def send(self, item: bytes) -> None:
        """All of it, waiting for room: a container that does not read holds up who writes.

        Raises StdinClosed (a Conflict) once the container closed its end, Conflict where another client feeds it,
        anyio.ClosedResourceError after aclose().
        """
        await (await self._opened()).send(item)

    async def _opened(self) -> Sink:
        async with self._opening:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._sink is None:
                read_end, write_end = os.pipe2(os.O_CLOEXEC)
                sink = Sink(write_end, self._name)
                try:
                    await self._attach(read_end)
                except BaseException:
                    sink.close()
                    raise
                finally:
                    os.close(read_end)
                self._sink = sink
            return self._sink

    async def aclose(self) -> None:
        """Half-close: the container reads the end once it has read what was sent. Safe to repeat.

        Raises Unavailable where no supervisor could be told.
        """
        if not self._closed:
            self._closed = True
            try:
                await self._half_close()
            finally:
                self.let_go()

    def let_go(self) -> None:
        """Stop feeding it without closing it: another may go on."""
        self._closed = True
        if self._sink is not None:
            self._sink.close()
