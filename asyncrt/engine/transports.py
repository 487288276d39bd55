"""`copy`: an image from one place to another, through the content store.

    source -> every blob in the store, by digest -> (another form, if the destination needs it) -> destination

What passes through is nobody's once it has arrived: no name refers to it, and the collection behind a copy takes it. A
copy that was broken off finds there what it had. Digests stay what they are unless the form changes: OCI's layouts hold
OCI's documents, docker's archives have none at all, and --format says what the user wants.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio

from asyncrt.engine.images import Images, Stored, hosts
from asyncrt.errors import AsyncrtError, BadRequest, NoSuchObject, StorageFailed, shown
from asyncrt.images import documents, formats, image
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Index
from asyncrt.model import location as locations
from asyncrt.model import media_types, platform
from asyncrt.model import reference as references
from asyncrt.model.descriptor import Descriptor, Platform
from asyncrt.model.location import Location
from asyncrt.model.moving_requests import Copy
from asyncrt.model.reference import Reference

if TYPE_CHECKING:
    from asyncrt.images.fetching import Fetches
    from asyncrt.images.progress import Progress
    from asyncrt.registry.client import Client

    Send = trio.MemorySendChannel[Progress]

_FORMS: dict[str, Literal["oci", "v2s2"]] = {"oci": "oci", "v2s2": "v2s2"}


async def copy(images: Images, wish: Copy, progress: Send | None = None) -> Descriptor:
    """Do it; what the destination has now. BadRequest for what cannot be; otherwise as pull, push, load and save."""
    source, destination = locations.parse(wish.source), locations.parse(wish.destination)
    if wish.format and wish.format not in _FORMS:
        raise BadRequest("copy", f"--format {shown(wish.format)}", "it is neither oci nor v2s2")
    if wish.format == "v2s2" and destination.transport in ("oci", "oci-archive"):
        raise BadRequest("copy", str(destination), "a layout of OCI holds no docker manifests", "leave --format away")
    if wish.all and destination.transport == "docker-archive":
        raise BadRequest("copy", str(destination), "docker's archive holds one platform", "leave --all away")
    wanted = None if wish.all else platform.parse(wish.platform) if wish.platform else platform.host()
    async with images.using():
        target = await _take(images, source, wanted, wish, progress)
        target = await _one_of(images, target, wanted, str(source))
        if form := _form(wish, destination):
            target = await trio.to_thread.run_sync(formats.convert, target, images.content, form)
        await _put(images, target, source, destination, wish, progress)
    return target


def _form(wish: Copy, destination: Location) -> Literal["oci", "v2s2"] | None:
    if wish.format:
        return _FORMS[wish.format]
    return "oci" if destination.transport in ("oci", "oci-archive") else None


async def _one_of(images: Images, target: Descriptor, wanted: Platform | None, subject: str) -> Descriptor:
    """Of an index the manifest of the platform; everything, without one."""
    if wanted is None or target.media_type not in media_types.INDEXES:
        return target
    source = Stored(images.blobs, subject)
    return (await image.choose(source, target, await source.get(target), wanted, subject))[0]


# From


async def _take(
    images: Images, source: Location, wanted: Platform | None, wish: Copy, progress: Send | None
) -> Descriptor:
    """What the source holds, all that is needed of it in the store."""
    if source.transport == "docker":
        from asyncrt.images.whole import fetch

        async with _registry(images, source.name, wish.plain, wish.login) as (client, fetches):
            return await fetch(client, fetches, images.blobs, references.parse(source.name), wanted, progress)
    if source.transport == "asyncrt":
        return images.target(source.name)[1]
    return await trio.to_thread.run_sync(_read_files, images, source)


def _read_files(images: Images, source: Location) -> Descriptor:
    """In a thread."""
    from asyncrt.images.layout import load_layout
    from asyncrt.images.plain_directory import load_directory

    content, path = images.content, Path(source.path)
    if source.transport == "dir":
        return load_directory(path, content)
    if source.transport == "oci":
        (found,) = load_layout(path, content, only=source.name)
        return found.target
    return _read_archive(images, source)


def _read_archive(images: Images, source: Location) -> Descriptor:
    from asyncrt.images.loading import chunks_of, load

    form: Literal["oci", "docker"] = "oci" if source.transport == "oci-archive" else "docker"
    try:
        file = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed("read archive", source.path, (error.strerror or str(error)).lower()) from error
    try:
        loaded = load(_checked(chunks_of(file)), images.content, source.path, form)
    finally:
        os.close(file)
    fit = [one for one in loaded if not source.name or any(_same(name, source) for name in one.names)]
    if len({one.target.digest for one in fit}) != 1:
        there = ", ".join(shown(name) for one in loaded for name in one.names)[:400]
        cause = f"there is no {shown(source.name)} in it" if source.name else f"there are {len(loaded)} images in it"
        raise NoSuchObject("find image", source.path, cause, f"there are: {there}" if there else "")
    return fit[0].target


def _same(name: str, source: Location) -> bool:
    """Whether an archive's name is the one that was asked for: a tag in OCI's, a reference in docker's."""
    if source.transport == "oci-archive":
        return name == source.name
    try:
        return str(references.parse(name)) == source.name
    except BadRequest:
        return False


# To


async def _put(
    images: Images, target: Descriptor, source: Location, destination: Location, wish: Copy, progress: Send | None
) -> None:
    if destination.transport == "docker":
        from asyncrt.images.push import push

        reference = references.parse(destination.name)
        if reference.digest and reference.digest != target.digest:
            raise BadRequest("copy", str(destination), f"what is copied has the digest {target.digest}")
        beside = [references.parse(source.name).path] if _one_registry(source, destination) else []
        async with _registry(images, destination.name, wish.dest_plain, wish.dest_login) as (client, _):
            return await push(client, images.blobs, target, reference, beside, progress)
    if destination.transport == "asyncrt":
        await images.take([destination.name], target)
        return None
    await trio.to_thread.run_sync(_write_files, images, target, destination)
    return None


def _one_registry(source: Location, destination: Location) -> bool:
    both = source.transport == destination.transport == "docker"
    return both and references.parse(source.name).host == references.parse(destination.name).host


def _write_files(images: Images, target: Descriptor, destination: Location) -> None:
    """In a thread."""
    from asyncrt.images.plain_directory import save_directory
    from asyncrt.images.saving import Saved, save, save_layout

    content, path = images.content, Path(destination.path)
    saved = Saved(target, (), target, destination.name)
    match destination.transport:
        case "oci":
            with _undone(path):
                save_layout([saved], content, path)
        case "dir":
            with _undone(path):
                save_directory(target, content, path)
        case "oci-archive":
            _write_archive(path, lambda write: save([saved], content, write, docker=False))
        case _:
            from asyncrt.images.docker_archive import save_docker

            names: tuple[Reference, ...] = (references.parse(destination.name),) if destination.name else ()
            document = documents.read(content.read(target, MAX_BYTES), target.media_type, target.digest)
            if isinstance(document, Index):
                raise BadRequest("copy", str(destination), "docker's archive holds no index", "name a --platform")
            whole = saved._replace(names=names, label="")
            _write_archive(path, lambda write: save_docker([whole], content, write))


def _write_archive(path: Path, fill: Callable[[Callable[[bytes], object]], None]) -> None:
    """At once: who reads sees what was there before, or the whole new archive."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with beside.open("wb") as file:

                def write(data: bytes) -> None:
                    trio.from_thread.check_cancelled()
                    file.write(data)

                fill(write)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageFailed("write archive", str(path), (error.strerror or str(error)).lower()) from error


@contextlib.contextmanager
def _undone(directory: Path) -> Iterator[None]:
    """A directory that was not there is not there after a failure."""
    there = directory.exists()
    try:
        yield
    except BaseException:
        if not there:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _checked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """So that a caller that left ends it."""
    for chunk in chunks:
        trio.from_thread.check_cancelled()
        yield chunk


@contextlib.asynccontextmanager
async def _registry(images: Images, name: str, plain: bool, login: str) -> AsyncIterator[tuple[Client, Fetches]]:
    """The engine's own client; one for this copy alone where the user said something about this registry."""
    if not plain and not login:
        yield await images.registry()
        return
    from asyncrt.images.fetching import open_fetches
    from asyncrt.registry.client import open_client
    from asyncrt.registry.credentials import Credentials, Given
    from asyncrt.registry.endpoints import Settings

    host = references.parse(name).host
    credentials = Given(host, login) if login else Credentials()
    failure: AsyncrtError | None = None
    async with open_client(Settings(hosts(host if plain else "")), credentials) as client:
        async with open_fetches(images.blobs) as fetches:
            try:
                yield client, fetches
            except AsyncrtError as error:
                failure = error
    if failure is not None:
        raise failure


def described(target: Descriptor) -> dict[str, str]:
    """What the caller is told."""
    return {"digest": target.digest, "media_type": target.media_type}
