"""Attach: the shim's subscription while there is a shim, and the rest of the log where the container ended.

A client hears of a start and asks for the output; a program that ends at once is faster. Whoever asks gets every byte.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.stop import task_of
from asyncrt.errors import BadRequest
from asyncrt.model.container import Container
from asyncrt.supervisor.task import LineEnded

DEED = "attach to"
NOT_THIS = -1
FROM_NOW = -2
CHUNK = 1 << 20  # bytes of one sendfile


async def attach(
    engine: Engine, container: Container, stdin: bool, offsets: tuple[int, int], fds: Sequence[int]
) -> None:
    """Subscribe fds ([stdin] [stdout] [stderr]) from byte offsets (-1: not this stream, -2: from now).

    Conflict if it never ran, or if its stdin is wanted and taken or closed. The caller keeps its fds.
    """
    if len(fds) != stdin + sum(offset != NOT_THIS for offset in offsets):
        raise BadRequest(DEED, container.name, "fds and streams do not match", "see protocol.py")
    while stdin or container.exit is None or container.id in engine.tasks:
        task = task_of(engine, container, DEED)
        try:
            await task.attach(stdin, *offsets, fds)
            return
        except LineEnded:
            await task.over.wait()
            container = engine.table.get(container.id) or engine.departed.get(container.id) or container
            if engine.tasks.get(container.id) is task:
                raise  # nobody learned what became of it
    engine.nursery.start_soon(_replay, engine, container.id, offsets, [os.dup(fd) for fd in fds])


async def _replay(engine: Engine, id: str, offsets: tuple[int, int], fds: list[int]) -> None:
    """Send what the log has, each stream at its reader's pace, and close; a log that is gone is an end, too."""
    wanted = [(name, at) for name, at in zip(("stdout", "stderr"), offsets, strict=True) if at != NOT_THIS]
    async with trio.open_nursery() as nursery:
        for (name, offset), fd in zip(wanted, fds, strict=True):
            nursery.start_soon(_send, str(engine.directories.of(id) / name), offset, fd)


async def _send(path: str, offset: int, pipe: int) -> None:
    try:
        with contextlib.suppress(OSError):  # ENOENT: it said nothing; EPIPE: the reader is gone
            log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.set_blocking(pipe, False)
                await _send_file(log, os.fstat(log).st_size if offset == FROM_NOW else offset, pipe)
            finally:
                os.close(log)
    finally:
        os.close(pipe)


async def _send_file(log: int, offset: int, pipe: int) -> None:
    while True:
        try:
            sent = os.sendfile(pipe, log, offset, CHUNK)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(pipe)
            continue
        if sent == 0:
            return
        offset += sent
        await trio.lowlevel.checkpoint()
