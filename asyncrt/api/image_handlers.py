"""The requests that are about images."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from asyncrt.engine import forgetting
from asyncrt.engine.engine import Engine
from asyncrt.engine.images import Found
from asyncrt.errors import AsyncrtError, BadRequest, NoSuchObject, shown
from asyncrt.model import platform as platforms
from asyncrt.model import protocol as p
from asyncrt.model.image import BlobProgress
from asyncrt.model.image_requests import Images, Load, Pull, Push, RemoveImage, Save, Tag

if TYPE_CHECKING:
    from asyncrt.images.progress import Progress

T = TypeVar("T")
SAVED_FORMS = ("", "docker-archive", "oci-archive", "oci-dir")
Requests = Pull | Push | Images | Tag | RemoveImage | Load | Save


class Send(Protocol):
    async def __call__(self, value: Any) -> None: ...


async def serve(engine: Engine, request: Requests, fds: list[int], item: Send) -> Any:
    """The End value; as handlers.serve."""
    images = engine.images
    match request:
        case Pull():
            return await _pull(engine, request, item)
        case Push():
            target = await telling(item, lambda send: images.push(request.image, send))
            return {"digest": target.digest}
        case Images():
            return await images.summaries()
        case Tag():
            return {"name": await images.tag(request.image, request.name)}
        case RemoveImage():
            return await _remove(engine, request, item)
        case Load():
            return await _load(engine, _one(fds, "load"))
        case Save():
            return await _save(engine, request, _one(fds, "save"))


async def _pull(engine: Engine, request: Pull, item: Send) -> dict[str, str]:
    wanted = platforms.parse(request.platform) if request.platform else None
    if request.missing:
        try:
            return _told(await engine.images.find(request.image, wanted))
        except NoSuchObject as error:
            if error.deed != "find image":
                raise
    return _told(await telling(item, lambda send: engine.images.pull(request.image, wanted, send)))


def _told(found: Found) -> dict[str, str]:
    return {"name": found.name, "digest": found.image.target.digest, "id": found.image.manifest.config.digest}


async def telling(item: Send, job: Callable[[trio.MemorySendChannel[Progress]], Awaitable[T]]) -> T:
    """The job, its progress sent as it comes."""
    send, receive = trio.open_memory_channel[Any](0)
    outcome: list[T] = []
    failure: list[AsyncrtError] = []

    async def run() -> None:
        async with send:
            try:
                outcome.append(await job(send))
            except AsyncrtError as error:  # raised below: the nursery would make a group of it
                failure.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async for one in receive:
            await item(BlobProgress(one.digest, one.media_type, one.state.value, one.done, one.total, one.note))
    if failure:
        raise failure[0]
    return outcome[0]


async def _remove(engine: Engine, request: RemoveImage, item: Send) -> None:
    for ref in request.refs:
        try:
            gone = await forgetting.remove(engine.images, ref, lambda: forgetting.used(engine.table), request.force)
            await item(p.Outcome(ref, str(len(gone))))
        except AsyncrtError as error:
            await item(p.Outcome(ref, "", error.to_dict()))


def _one(fds: list[int], deed: str) -> int:
    if len(fds) != 1:
        raise BadRequest(deed, "images", f"one fd is needed, {len(fds)} came")
    return fds[0]


async def _load(engine: Engine, fd: int) -> list[str]:
    """The names that came; an image without one is told by its digest."""
    from asyncrt.images.layout import load_layout
    from asyncrt.images.loading import Loaded, chunks_of, load

    os.set_blocking(fd, True)
    content = engine.images.content

    def run() -> list[Loaded]:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return load_layout(Path(f"/proc/self/fd/{fd}"), content, "layout")
        return load(_checked(chunks_of(fd)), content, "archive")

    told: list[str] = []
    async with engine.images.using():
        for one in await trio.to_thread.run_sync(run):
            told += await engine.images.take(one.names, one.target) or [one.target.digest]
    return told


def _checked(chunks: Any) -> Any:
    """So that a caller that left ends it."""
    for chunk in chunks:
        trio.from_thread.check_cancelled()
        yield chunk


async def _save(engine: Engine, request: Save, fd: int) -> None:
    from asyncrt.images.docker_archive import save_docker
    from asyncrt.images.saving import Saved, save, save_layout

    if request.format not in SAVED_FORMS:
        raise BadRequest("save", f"--format {shown(request.format)}", f"known are {', '.join(SAVED_FORMS[1:])}")
    os.set_blocking(fd, True)
    wanted = []
    for ref in request.refs:
        reference, target = engine.images.target(ref)
        found = await engine.images.find(ref)
        names = (reference,) if reference is not None else ()
        wanted.append(Saved(target, names, found.image.descriptor))
    content = engine.images.content

    def write(data: bytes) -> None:
        trio.from_thread.check_cancelled()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def run() -> None:
        try:
            if request.format == "oci-dir":
                save_layout(wanted, content, Path(f"/proc/self/fd/{fd}"))
            elif request.format == "docker-archive":
                save_docker(wanted, content, write)
            else:
                save(wanted, content, write, docker=not request.format)
        except OSError as error:
            raise BadRequest("save", "images", (error.strerror or str(error)).lower()) from error

    await trio.to_thread.run_sync(run)
