"""An exec from its beginning to its end, with what it wrote: feed it, read both streams, wait."""

from __future__ import annotations

from typing import NamedTuple

import anyio

from asyncrt.model.container import Exit
from asyncrt.sdk.pipes import CHUNK, Sink, StdinClosed
from asyncrt.sdk.process import Process
from asyncrt.sdk.streams import PipeStream

LINGER = 1.0  # seconds of silence after the exit in which a pipe that a grandchild holds is still read
KEPT = 16 << 20  # bytes of each stream that are kept unless told


class Completed(NamedTuple):
    """What it came to. `truncated`: more was written to a stream than was to be kept; its beginning is here."""

    exit: Exit
    stdout: bytes
    stderr: bytes
    truncated: bool = False

    @property
    def code(self) -> int:
        """The exit status, or 128 + signal."""
        return self.exit.code


class _Kept:
    """The beginning of a stream. What is beyond the limit is read and dropped, so that nobody is held up."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.size = 0
        self._limit = limit

    async def take(self, stream: PipeStream) -> None:
        try:
            while True:
                chunk = await stream.receive(CHUNK)
                self.size += len(chunk)
                self.data += chunk[: self._limit - len(self.data)]
        except anyio.EndOfStream:
            return


async def _feed(stdin: Sink, data: bytes) -> None:
    try:
        await stdin.send(data)
        await stdin.aclose()
    except StdinClosed:
        stdin.close()  # it ended without reading all: its exit code says whether that was right


async def gather(process: Process, data: bytes, limit: int) -> Completed:
    """Until it ended and its streams did; a grandchild that keeps one open delays that by LINGER of silence at most."""
    out, err = _Kept(limit), _Kept(limit)
    read = anyio.Event()
    trouble: Exception | None = None
    ended: Exit | None = None

    async def reading() -> None:
        async with anyio.create_task_group() as both:
            both.start_soon(out.take, process.stdout)
            both.start_soon(err.take, process.stderr)
        read.set()

    async with anyio.create_task_group() as jobs:
        jobs.start_soon(_feed, process.stdin, data)
        jobs.start_soon(reading)
        try:
            ended = await process.wait()
        except Exception as error:  # noqa: BLE001 # comes out below, as itself and not in a group
            trouble = error
        seen = -1
        while not read.is_set() and seen != out.size + err.size:
            seen = out.size + err.size
            with anyio.move_on_after(LINGER):
                await read.wait()
        jobs.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    assert ended is not None
    truncated = out.size > limit or err.size > limit
    return Completed(ended, bytes(out.data), bytes(err.data), truncated)
