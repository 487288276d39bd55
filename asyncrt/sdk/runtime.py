"""The engine in the hands of a program, under asyncio as under trio.

    import anyio, asyncrt

    async def main():
        async with asyncrt.connect() as rt:
            async with rt.run("host:", ["echo", "hello"]) as container:
                print(await container.stdout.read())
                print((await container.wait()).code)

    anyio.run(main)

A container lives inside its block: leaving it removes the container, cancelling it kills it first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Unpack

from asyncrt.errors import BadRequest, Unavailable
from asyncrt.model.container import Container as Record
from asyncrt.model.image import ImageSummary
from asyncrt.model.image_requests import Images, Load, Pull, Push, RemoveImage, Save, Tag
from asyncrt.model.location import parse as location
from asyncrt.model.moving_requests import Copy, Login, Logout
from asyncrt.model.moving_requests import Unpack as UnpackImage
from asyncrt.model.options import Options
from asyncrt.model.protocol import Create, Info, Inspect, List, Progress, Remove, Version
from asyncrt.model.tree_requests import Import, InspectImages, PruneImages
from asyncrt.sdk.answer import close_all, typed
from asyncrt.sdk.connection import Reach
from asyncrt.sdk.container import Container, outcomes
from asyncrt.sdk.deadlines import within
from asyncrt.sdk.following import EventStream
from asyncrt.sdk.many import Group, group
from asyncrt.sdk.places import choose
from asyncrt.sdk.wishes import Wish, wish


@contextlib.asynccontextmanager
async def connect(
    socket: str = "",
    *,
    root: str = "",
    state: str = "",
    start: bool = True,
    timeout: float | None = None,
) -> AsyncIterator[Runtime]:
    """A connection to the supervisor of these places, each by default as the command line has it (ASYNCRT_ROOT,
    ASYNCRT_STATE, ASYNCRT_SOCKET, /var/lib/asyncrt, /run/asyncrt).

    `start`: where none runs one is started, and stays. Raises Unavailable, TimedOut after `timeout` seconds, and
    AsyncrtError for who is not root. A supervisor that goes away is looked for, and started, again by the next call.
    """
    places = choose({"root": root, "state": state, "socket": socket}, os.environ)
    reach = Reach(places, start)
    try:
        with within(timeout, "connect to", f"the supervisor at {places.socket}"):
            await reach.connection()
        yield Runtime(reach)
    finally:
        reach.close()


class Runtime:
    """What connect() gives. Every call takes `timeout` in seconds, and raises TimedOut, Unavailable, BadRequest."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    def run(
        self,
        image: str | Options,
        args: Sequence[str] = (),
        *,
        timeout: float | None = None,
        **words: Unpack[Wish],
    ) -> AbstractAsyncContextManager[Container]:
        """A container that runs while the block lasts, and is killed and removed behind it.

        `image` is "host:", "rootfs:/PATH", or a whole Options value; `timeout` bounds the start. Entering raises
        StartFailed (code 127: not found, 126: not executable), NoSuchObject for the image, Conflict for a name in use.
        """
        return self._run(wish(image, args, **words), timeout)

    @contextlib.asynccontextmanager
    async def _run(self, options: Options, timeout: float | None) -> AsyncIterator[Container]:
        async with group(self._reach, [(options, 1)], True, timeout) as one:
            async for container in one:
                yield container
                return
        raise Unavailable("start", options.name or "container", "the supervisor did not say that it runs")

    def run_many(
        self,
        image: str | Options | Iterable[Options],
        args: Sequence[str] = (),
        *,
        count: int = 1,
        strict: bool = True,
        timeout: float | None = None,
        **words: Unpack[Wish],
    ) -> AbstractAsyncContextManager[Group]:
        """`count` containers of one kind, or one of each Options of a list; iterate over the group to have them as they
        start. Behind the block all are killed and removed.

        What does not start raises from the iteration; with `strict=False` it stands in `group.failed` instead, and the
        others go on. `timeout` bounds all starts together. Same options one after another become one request.
        """
        if isinstance(image, str | Options):
            specs = [(wish(image, args, **words), count)]
        elif args or words or count != 1:
            raise BadRequest("run", "containers", "each of the list has its own options", "give the list alone")
        else:
            specs = list[tuple[Options, int]]()
            for options in image:
                if specs and specs[-1][0] == options and not options.name:
                    specs[-1] = (options, specs[-1][1] + 1)
                else:
                    specs.append((options, 1))
        if any(number < 1 for _, number in specs):
            raise BadRequest("run", "containers", f"{count} is no number of them")
        return group(self._reach, specs, strict, timeout)

    async def create(
        self,
        image: str | Options,
        args: Sequence[str] = (),
        *,
        timeout: float | None = None,
        **words: Unpack[Wish],
    ) -> Container:
        """A container that is not bound to a block and not started: container.start(), container.remove()."""
        options = wish(image, args, **words)
        with within(timeout, "create", options.name or "container"):
            answer, _ = await self._reach.call(Create(options))
            found: Container | None = None
            async for value, fds in answer:
                close_all(fds)
                progress = typed(value, Progress)
                found = Container(self._reach, progress.id, progress.name, options)
        if found is None:
            raise Unavailable("create", options.name or "container", "the supervisor did not say what it made")
        return found

    async def get(self, ref: str, *, timeout: float | None = None) -> Container:
        """A handle on a container that is there already, by name, id, or the beginning of an id. NoSuchObject."""
        record = await self.inspect(ref, timeout=timeout)
        container = Container(self._reach, record.id, record.name, record.options, record.index)
        container.pid, container.exit = record.pid, record.exit
        return container

    async def inspect(self, ref: str, *, timeout: float | None = None) -> Record:
        """A container's record, by name, id, or the beginning of an id. NoSuchObject."""
        with within(timeout, "inspect", ref):
            (record,) = typed(await self._reach.ask(Inspect((ref,))), _Records)
        return record

    async def kill(self, *refs: str, signal: int = 9, timeout: float | None = None) -> None:
        """Send a signal to the first process of each; the first error is raised, once all were tried."""
        for ref in refs:
            await (await self.get(ref, timeout=timeout)).kill(signal, timeout=timeout)

    async def remove(self, *refs: str, force: bool = False, timeout: float | None = None) -> None:
        """Remove these; the first error is raised once all were tried. Conflict for what runs, unless `force`."""
        with within(timeout, "remove", ", ".join(refs)):
            await outcomes(self._reach, Remove(refs, force))

    async def pull(self, image: str, *, platform: str = "", timeout: float | None = None) -> str:
        """Fetch and unpack an image; its name in full. run() and create() do so for what is not here.

        NoSuchObject, RegistryFailed, BadImage or StorageFailed; what has arrived stays for the next pull.
        """
        with within(timeout, "pull", image):
            told = typed(await self._reach.ask(Pull(image, platform)), dict[str, str])
        return told["name"]

    async def push(self, image: str, *, timeout: float | None = None) -> str:
        """Send an image to the registry that its name says; the digest that it has there. As pull()."""
        with within(timeout, "push", image):
            told = typed(await self._reach.ask(Push(image)), dict[str, str])
        return told["digest"]

    async def copy(
        self,
        source: str,
        destination: str,
        *,
        all: bool = False,
        platform: str = "",
        format: str = "",
        timeout: float | None = None,
    ) -> str:
        """An image from one place to another, in the syntax of `asyncrt copy`; the digest of what is there now."""
        wish = Copy(str(location(source)), str(location(destination)), all, platform, format)
        with within(timeout, "copy", source):
            told = typed(await self._reach.ask(wish), dict[str, str])
        return told["digest"]

    async def unpack(self, image: str, path: str, *, platform: str = "", timeout: float | None = None) -> None:
        """A bundle of an image in the new directory `path`, for any OCI runtime: rootfs and config.json."""
        with within(timeout, "unpack", image):
            await self._reach.ask(UnpackImage(image, _absolute(path), platform))

    async def load(self, fd: int, *, timeout: float | None = None) -> list[str]:
        """Take the images of an archive or layout, by an fd of a file, pipe or directory; their names in full."""
        with within(timeout, "load", "images"):
            answer, _ = await self._reach.call(Load(), [fd])
            return typed(await answer.result(), list[str])
        raise AssertionError("unreachable")

    async def save(self, *refs: str, fd: int, format: str = "", timeout: float | None = None) -> None:
        """Write images into `fd`, as one archive; with "oci-dir" as a layout into that directory. NoSuchObject."""
        with within(timeout, "save", ", ".join(refs)):
            answer, _ = await self._reach.call(Save(refs, format), [fd])
            await answer.result()

    async def login(self, host: str, user: str, password: str, *, timeout: float | None = None) -> str:
        """Try credentials at a registry and keep them where pulls look for them; where that is. RegistryFailed."""
        with within(timeout, "log in to", host):
            return typed(await self._reach.ask(Login(host, user, password)), dict[str, str])["kept"]
        raise AssertionError("unreachable")

    async def logout(self, host: str, *, timeout: float | None = None) -> bool:
        """Forget what is kept for a registry; whether there was anything."""
        with within(timeout, "log out of", host):
            return typed(await self._reach.ask(Logout(host)), dict[str, bool])["gone"]
        raise AssertionError("unreachable")

    async def images(self, *, timeout: float | None = None) -> _Summaries:
        """Every name and what it means here."""
        with within(timeout, "list", "images"):
            return typed(await self._reach.ask(Images()), _Summaries)
        raise AssertionError("unreachable")

    async def import_image(
        self,
        fd: int,
        name: str = "",
        *,
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
        timeout: float | None = None,
    ) -> str:
        """An image of the tar that `fd` gives, plain or compressed; its id. BadImage, BadRequest."""
        with within(timeout, "import", name or "an image"):
            answer, _ = await self._reach.call(Import(name, message, tuple(changes), platform), [fd])
            told = typed(await answer.result(), dict[str, str])
        return told["id"]

    async def inspect_image(self, image: str, *, timeout: float | None = None) -> dict[str, Any]:
        """Its document as docker's `image inspect` has it, with History, the newest step first. NoSuchObject."""
        with within(timeout, "inspect", image):
            (found,) = typed(await self._reach.ask(InspectImages((image,))), list[dict[str, Any]])
        return dict(found)

    async def tag_image(self, image: str, name: str, *, timeout: float | None = None) -> None:
        """Give an image one more name."""
        with within(timeout, "tag", image):
            await self._reach.ask(Tag(image, name))

    async def remove_images(self, *refs: str, force: bool = False, timeout: float | None = None) -> None:
        """Forget names; the first error is raised once all were tried."""
        with within(timeout, "remove", ", ".join(refs)):
            await outcomes(self._reach, RemoveImage(refs, force))

    async def prune_images(self, all: bool = False, *, timeout: float | None = None) -> dict[str, Any]:
        """Forget images without a name that no container stands on, or all such ones: the names and blobs that went."""
        with within(timeout, "prune", "images"):
            return typed(await self._reach.ask(PruneImages(all)), dict[str, Any])
        raise AssertionError("unreachable")

    def events(self, after: int = -1, *, follow: bool = True) -> EventStream:
        """What happens, as it happens, after sequence number `after` (0: from the first; -1: only what is new).

        Goes on without a gap when the supervisor dies. Without `follow` it ends with the newest.
        """
        return EventStream(self._reach, after, follow)

    async def info(self, *, timeout: float | None = None) -> dict[str, Any]:
        """The supervisor, its places and counts."""
        return await self._document(Info(), "ask", timeout)

    async def version(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Its version and the protocol's."""
        return await self._document(Version(), "ask", timeout)

    async def _document(self, request: Info | Version, deed: str, timeout: float | None) -> dict[str, Any]:
        with within(timeout, deed, "the supervisor"):
            return typed(await self._reach.ask(request), dict[str, Any])
        raise AssertionError("unreachable")

    async def list(self, all: bool = False, *, timeout: float | None = None) -> _Records:
        """Records of the containers that run, or of all."""
        found: _Records = []
        with within(timeout, "list", "containers"):
            answer, _ = await self._reach.call(List(all))
            async for value, fds in answer:
                close_all(fds)
                found += typed(value, _Records)
        return found


_Records = list[Record]
_Summaries = list[ImageSummary]


def _absolute(path: str) -> str:
    """The supervisor has another working directory."""
    return os.path.abspath(path)
