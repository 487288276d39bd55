"""Attach: the shim's subscription while there is a shim, and the rest of the log where the container ended.

A client hears of a start and asks for the output; a program that ends at once is faster. Whoever asks gets every byte.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.stop import task_of
from asyncrt.errors import BadRequest, Conflict
from asyncrt.model import log
from asyncrt.model.container import Container
from asyncrt.model.protocol import FROM_NOW, NOT_THIS, OLDEST, Attached
from asyncrt.supervisor.task import LineEnded, Wish

DEED = "attach to"
CHUNK = 1 << 20  # bytes of one sendfile


async def attach(engine: Engine, container: Container, wish: Wish, fds: Sequence[int]) -> Attached:
    """Subscribe fds ([stdin] [stdout] [stderr]); where the streams begin. The caller keeps its fds.

    Conflict if it never ran, or if its stdin is wanted and taken or closed.
    """
    if len(fds) != wish.stdin + (wish.stdout != NOT_THIS) + (wish.stderr != NOT_THIS):
        raise BadRequest(DEED, container.name, "fds and streams do not match", "see protocol.py")
    while wish.stdin or container.exit is None or container.id in engine.tasks:
        task = task_of(engine, container, DEED)
        try:
            begun = await task.attach(wish, fds)
            return Attached(begun.stdout, begun.stderr)
        except LineEnded:
            await task.over.wait()
            container = engine.table.get(container.id) or engine.departed.get(container.id) or container
            if engine.tasks.get(container.id) is task:
                raise  # nobody learned what became of it
    return await _replay(engine, container, wish, fds)


async def _replay(engine: Engine, container: Container, wish: Wish, fds: Sequence[int]) -> Attached:
    """Have what the log has sent, each stream at its reader's pace; a log that is gone is an end, too."""
    if container.options.log_format == "none":
        raise Conflict(DEED, container.name, "it keeps no log: its stdio was its starter's own")
    directory = engine.directories.of(container.id)
    oldest = _oldest(directory / "marks")
    begun = {"stdout": NOT_THIS, "stderr": NOT_THIS}
    pipes = iter(fds)
    found: list[tuple[str, int, int]] = []
    for name, offset in (("stdout", wish.stdout), ("stderr", wish.stderr)):
        if offset != NOT_THIS:
            begun[name] = _beginning(container, name, offset, getattr(oldest, name), _size(directory / name))
            found.append((str(directory / name), begun[name], next(pipes)))
    for path, start, pipe in found:
        engine.nursery.start_soon(_send, path, start, os.dup(pipe))
    return Attached(**begun)


def _oldest(path: Path) -> log.Marks:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a log without a bound, or a container without one
        return log.Marks()
    try:
        return log.marks(functools.partial(os.pread, fd))
    finally:
        os.close(fd)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _beginning(container: Container, name: str, offset: int, first: int, size: int) -> int:
    """Where a stream begins for who asks for `offset`."""
    if 0 <= offset < first:
        cause = f"the log of {name} begins at byte {first}: its bound has dropped what was before"
        raise Conflict(DEED, container.name, cause, f"ask for {first} or more, or for the oldest")
    return {FROM_NOW: size, OLDEST: first}.get(offset, offset)


async def _send(path: str, offset: int, pipe: int) -> None:
    try:
        with contextlib.suppress(OSError):  # ENOENT: it said nothing; EPIPE: the reader is gone
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.set_blocking(pipe, False)
                await _send_file(file, offset, pipe)
            finally:
                os.close(file)
    finally:
        os.close(pipe)


async def _send_file(file: int, offset: int, pipe: int) -> None:
    while True:
        try:
            sent = os.sendfile(pipe, file, offset, CHUNK)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(pipe)
            continue
        if sent == 0:
            return
        offset += sent
        await trio.lowlevel.checkpoint()
