"""Images by name: what is here, what is fetched, and what a container of one stands on.

    standing = await images.standing(options)     # options with what the image says, on layers that are unpacked
    source = images.source(standing.options.image)

A container is bound to what its image was when it was made: its options name the chain of layers ("layers:sha256:..."),
and what the image's config said is in them. So a name may get another meaning, or lose it, and the container starts
again as it was.

The registry's client is opened with the first pull: a supervisor that needs none pays for none.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
import trio

from asyncrt.content.jobs import Blobs
from asyncrt.content.store import Content
from asyncrt.engine.naming import Names, familiar, is_bare
from asyncrt.errors import AsyncrtError, BadImage, BadRequest, NoSuchObject, Unavailable
from asyncrt.images import blobs as store
from asyncrt.images import config as configs
from asyncrt.images import conversion, documents, image
from asyncrt.images.conversion import Settings
from asyncrt.images.image import Documents, Image
from asyncrt.images.unpacking import Layer, Ready, Unpacking
from asyncrt.metadata.writer import Writer
from asyncrt.model import platform as platforms
from asyncrt.model import reference as references
from asyncrt.model.descriptor import Descriptor, Platform
from asyncrt.model.digest import Digest, chain_ids
from asyncrt.model.image import ImageSummary
from asyncrt.model.options import Options
from asyncrt.model.reference import Reference
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.sources import Source
from asyncrt.supervisor.promise import Promise

if TYPE_CHECKING:
    from asyncrt.images.fetching import Fetches
    from asyncrt.images.progress import Progress
    from asyncrt.registry.client import Client
    from asyncrt.registry.endpoints import HostSettings

LAYERS = "layers:"
QUIET_SECONDS = 20.0
INSECURE = "ASYNCRT_INSECURE_REGISTRIES"  # a list with commas, in the supervisor's environment
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LOCAL = ("host:", "rootfs:", LAYERS)


_log = structlog.get_logger("asyncrt.engine.images")


class Found(NamedTuple):
    """An image that is here: its name in full, and what it is for this machine."""

    name: str
    image: Image
    chain: Digest
    settings: Settings


class Standing(NamedTuple):
    """What containers are made of: options that need no image any more, the image's name for people, its manifest."""

    options: Options
    image: str
    base: Descriptor | None


class Images:
    """The images of one engine."""

    def __init__(self, root: Path, snapshots: Overlay, writer: Writer) -> None:
        self.content = Content(root)
        self.blobs = Blobs(self.content)
        self.snapshots = snapshots
        self._unpacking = Unpacking(self.content, snapshots)
        self.names = Names(writer, self.blobs)
        self._found: dict[tuple[str, str], Found] = {}
        self.lock = trio.Lock()
        self.users = 0
        self._unsettled = trio.Event()
        self._wanted = trio.Event()
        self._open: Promise[tuple[Client, Fetches]] = Promise()

    async def run(self) -> None:
        """Keep the registry's client, from the first pull until cancelled."""
        await self._wanted.wait()
        from asyncrt.images.fetching import open_fetches
        from asyncrt.registry.client import open_client
        from asyncrt.registry.credentials import Credentials
        from asyncrt.registry.endpoints import Settings

        async with open_client(Settings(hosts()), Credentials()) as client, open_fetches(self.blobs) as fetches:
            self._open.set((client, fetches))
            await trio.sleep_forever()

    async def registry(self) -> tuple[Client, Fetches]:
        """The client and the fetches that all share."""
        self._wanted.set()
        return await self._open.wait()

    async def forget_logins(self) -> None:
        """Somebody has logged in or out."""
        if self._open.done:
            client, _ = await self._open.wait()
            client.forget_logins()

    async def keep_house(self) -> None:
        """Give to the disk what came, in quiet moments; until cancelled."""
        while True:
            await self._unsettled.wait()
            await trio.sleep(QUIET_SECONDS)
            self._unsettled = trio.Event()
            try:
                await trio.to_thread.run_sync(self.content.settle)
                await trio.to_thread.run_sync(self.snapshots.layers.settle)
            except AsyncrtError as error:
                _log.error("write images to disk", error=str(error))

    def sweep(self) -> None:
        """Remove layers that a crash has left, before anything is begun. Blocks."""
        left = self.snapshots.layers.sweep()
        if left:
            _log.info("removed what a crash left", layers=len(left))

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """While blobs and layers are here that no name and no container refers to yet: nothing is collected."""
        async with self.lock:
            self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    # what is here

    def source(self, text: str) -> Source | None:
        """What "layers:CHAIN" stands on; None for what is no such text. NoSuchObject: the layers are gone."""
        return self.snapshots.source(Digest.parse(text.removeprefix(LAYERS))) if text.startswith(LAYERS) else None

    async def find(self, text: str, wanted: Platform | None = None) -> Found:
        """The image of that name, its layers unpacked; NoSuchObject if nobody pulled or loaded it."""
        name, named = self.names.find(text)
        return await self.ready(name, named.target, wanted or platforms.host())

    async def stored(self, text: str, wanted: Platform) -> Found:
        """The image of that name with all its blobs here, pulled if they are not; its layers may not be unpacked."""
        try:
            name, named = self.names.find(text)
            found = await self._stored(name, named.target, wanted)
        except NoSuchObject:
            return await self.pull(text, wanted)
        chains = chain_ids(diff_ids(found))
        if not chains:
            raise BadImage("unpack image", name, "it has no layers")
        return Found(name, found, chains[-1], conversion.convert(found.config, name))

    async def ready(self, name: str, target: Descriptor, wanted: Platform) -> Found:
        """The image of a target that is here, its layers unpacked."""
        key = target.digest, platforms.written(wanted)
        known = self._found.get(key)
        if known is not None and self.snapshots.layers.has(known.chain):
            return known._replace(name=name)
        found = await self._stored(name, target, wanted)
        chain = await self._unpacking.unpack(layers_of(found))
        self._found[key] = Found(name, found, chain, conversion.convert(found.config, name))
        return self._found[key]

    async def _stored(self, name: str, target: Descriptor, wanted: Platform) -> Image:
        source = Stored(self.blobs, name)
        descriptor, manifest = await image.choose(source, target, await source.get(target), wanted, name)
        configs.runnable(manifest, name)
        data = await store.document(self.blobs, manifest.config, name)
        documents.layers(manifest, name)
        return image.checked(target, descriptor, manifest, data, wanted, name)

    async def standing(self, options: Options) -> Standing:
        """Options with what the image says beneath them. Pulls what is not here; as pull()."""
        if options.image.startswith(LOCAL):
            return Standing(options, options.image, None)
        try:
            found = await self.find(options.image)
        except NoSuchObject as error:
            if error.deed != "find image":
                raise
            found = await self.pull(options.image)
        return Standing(laid_over(options, found), familiar(found.name), found.image.descriptor)

    # what comes and goes

    async def pull(
        self,
        text: str,
        wanted: Platform | None = None,
        progress: trio.MemorySendChannel[Progress] | None = None,
    ) -> Found:
        """Fetch and unpack, whatever the name meant before. NoSuchObject, BadImage, RegistryFailed, StorageFailed."""
        from asyncrt.images.pull import pull

        reference = references.parse(text)
        wanted = wanted or platforms.host()
        client, fetches = await self.registry()
        async with self.using():
            got = await pull(client, fetches, self.blobs, reference, wanted, progress, meanwhile=self._unpack)
            await self._remember(str(reference), got.target)
            return await self.ready(str(reference), got.target, wanted)

    async def _unpack(self, image: Image, ready: Ready) -> None:
        """Each layer as soon as it is there."""
        await self._unpacking.unpack(layers_of(image), ready)

    async def push(self, text: str, progress: trio.MemorySendChannel[Progress] | None = None) -> Descriptor:
        """To the registry that the name says. NoSuchObject if it, or a part of it, is not here."""
        from asyncrt.images.push import push

        name, named = self.names.find(text)
        client, _ = await self.registry()
        if is_bare(name):
            raise BadRequest("push", text, "it has no name, so no registry", "asyncrt tag gives it one")
        reference = references.parse(name)
        known = [references.parse(one.name) for one in self.names if not is_bare(one.name)]
        beside = [one.path for one in known if one.host == reference.host]
        await push(client, self.blobs, named.target, reference, beside, progress)
        return named.target

    async def tag(self, text: str, other: str) -> str:
        """Give an image one more name; the name in full."""
        _, named = self.names.find(text)
        name = str(references.parse(other))
        await self._remember(name, named.target)
        return name

    async def take(self, names: Iterable[str], target: Descriptor) -> list[str]:
        """Name what came from elsewhere; the names in full. Without one it is kept under its digest."""
        whole = [str(references.parse(name)) for name in names]
        for name in whole or [""]:
            await self._remember(name, target)
        return whole

    async def attempt(self, name: str, target: Descriptor) -> Found | None:
        """As ready(), for this machine; None if it is for another, or not whole."""
        try:
            return await self.ready(name, target, platforms.host())
        except AsyncrtError:  # of another platform, or a part of it is missing: then nothing stands on it
            return None

    async def _remember(self, name: str, target: Descriptor) -> None:
        await self.names.put(name, target)
        self._unsettled.set()

    async def summaries(self) -> list[ImageSummary]:
        """Every name, by name."""
        found = []
        for named in self.names:
            told = await self.attempt(named.name, named.target)
            size = sum(layer.size for layer in told.image.layers) if told is not None else -1
            platform = platforms.written(told.image.config.platform) if told is not None else ""
            id = told.image.manifest.config.digest if told is not None else ""
            config = told.image.config if told is not None else None
            labels = dict(config.execution.labels or {}) if config is not None else {}
            created = (config.created or "") if config is not None else ""
            found.append(
                ImageSummary(
                    familiar(named.name), named.target.digest, id, size, platform, named.updated_ns, created, labels
                )
            )
        return found

    def target(self, text: str) -> tuple[Reference | None, Descriptor]:
        """What a name means, and the name in full; NoSuchObject."""
        name, named = self.names.find(text)
        return None if is_bare(name) else references.parse(name), named.target

    def close(self) -> None:
        """Whoever waits for the client is told."""
        self._open.fail(Unavailable("ask", "registry", "the engine is being stopped"))


def hosts(*more: str) -> Mapping[str, HostSettings]:
    """Who may be asked without TLS: this machine, as docker has it, whom the user names (INSECURE), and `more`."""
    from asyncrt.registry.endpoints import HostSettings

    named = [*more, *(host.strip() for host in os.environ.get(INSECURE, "").split(","))]
    plain = HostSettings(insecure=True)

    class Hosts(dict[str, HostSettings]):
        def get(self, host: str, default: Any = None) -> Any:
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
            return plain if host in named or name in LOOPBACK else default

    return Hosts()


def laid_over(options: Options, found: Found) -> Options:
    """The user's options over the image's settings, as docker does: with another entrypoint its command is dropped."""
    said = found.settings
    own = {posixpath.normpath(one.target) for one in options.volumes}
    args = options.args or (() if options.entrypoint else said.command)
    return msgspec.structs.replace(
        options,
        image=f"{LAYERS}{found.chain}",
        entrypoint=options.entrypoint or said.entrypoint,
        args=args,
        env=(*said.env, *options.env),
        workdir=options.workdir or said.working_directory,
        user=options.user or said.user,
        stop_signal=options.stop_signal or said.stop_signal,
        image_volumes=tuple(path for path in said.volumes if path not in own),
    )


def layers_of(image: Image) -> list[Layer]:
    """Each with its diffID, the lowest first."""
    return [Layer(*pair) for pair in zip(image.layers, diff_ids(image), strict=True)]


def diff_ids(image: Image) -> list[Digest]:
    return [Digest.parse(text) for text in image.config.rootfs.diff_ids or ()]


class Stored(Documents):
    """Documents out of the store."""

    def __init__(self, blobs: Blobs, subject: str) -> None:
        self._blobs = blobs
        self._subject = subject

    async def get(self, descriptor: Descriptor) -> bytes:
        return await store.document(self._blobs, descriptor, self._subject)
