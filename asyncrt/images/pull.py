"""A whole image from a registry into the store.

    the name -> index or manifest -> the platform's manifest -> config -> layers, all at once

Documents are small and come first; every one of them is a blob of the store as well, so that an image can be pushed
and saved as it came, to the byte. What is done with the layers may begin with the first that is there: `meanwhile`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from asyncrt.errors import RegistryFailed
from asyncrt.images import blobs as store
from asyncrt.images import config as configs
from asyncrt.images import documents, image
from asyncrt.images.blobs import Blobs
from asyncrt.images.fetching import Fetches
from asyncrt.images.image import Documents, Image
from asyncrt.images.progress import Board, Progress, State, posting
from asyncrt.images.together import together
from asyncrt.model.descriptor import Descriptor, Platform
from asyncrt.model.reference import Reference
from asyncrt.registry.client import Client, Found, Repository

Hold = Callable[[Sequence[Descriptor]], object]
Ready = Callable[[Descriptor], Awaitable[None]]  # returns when that layer is in the store
Meanwhile = Callable[[Image, Ready], Awaitable[None]]


async def pull(
    client: Client,
    fetches: Fetches,
    blobs: Blobs,
    reference: Reference,
    wanted: Platform,
    progress: trio.MemorySendChannel[Progress] | None = None,
    timeout: float = float("inf"),
    hold: Hold = lambda descriptors: None,
    meanwhile: Meanwhile | None = None,
) -> Image:
    """The image of that name for that platform, with all its blobs in the store.

    `hold` is told of blobs before they are looked for: who collects what nobody refers to keeps these until the
    caller has written down who does. `meanwhile` runs beside the fetches of the layers, once config and manifest are
    there and fit; if it fails, they end.

    NoSuchObject, BadImage, RegistryFailed or StorageFailed; what has arrived by then stays, and the next pull goes
    on there.
    """
    repository = client.repository(reference.host, reference.path)
    try:
        with trio.fail_after(timeout):
            async with posting(progress) as board:
                return await _pull(repository, fetches, blobs, reference, wanted, board, hold, meanwhile)
    except trio.TooSlowError:
        cause = f"not done in {timeout:g} s"
        raise RegistryFailed("pull", str(reference), cause, "what has arrived is kept: pull again") from None


async def _pull(
    repository: Repository,
    fetches: Fetches,
    blobs: Blobs,
    reference: Reference,
    wanted: Platform,
    board: Board,
    hold: Hold,
    meanwhile: Meanwhile | None,
) -> Image:
    subject = str(reference)
    source = Remote(repository, fetches, blobs, subject, hold)
    found = await repository.manifest(reference.target)
    hold([found.descriptor])
    await fetches.keep(found.descriptor, found.data)
    descriptor, manifest = await image.choose(source, found.descriptor, found.data, wanted, subject)
    configs.runnable(manifest, subject)
    store.check_size(manifest.config, subject)
    parts = {part.digest: part for part in (manifest.config, *documents.layers(manifest, subject))}
    hold(list(parts.values()))
    for part in parts.values():
        board.line(part)(State.WAITING, 0, "")
    config = parts.pop(manifest.config.digest)
    await fetches.fetch(repository, config, board.line(config))
    data = await store.document(blobs, config, subject)
    whole = image.checked(found.descriptor, descriptor, manifest, data, wanted, subject)
    there = {digest: trio.Event() for digest in parts}

    async def fetch(part: Descriptor) -> None:
        await fetches.fetch(repository, part, board.line(part))
        there[part.digest].set()

    async def ready(part: Descriptor) -> None:
        await there[part.digest].wait()

    jobs: list[Callable[[], Awaitable[None]]] = [partial(fetch, part) for part in parts.values()]
    if meanwhile is not None:
        jobs.append(partial(meanwhile, whole, ready))
    await together(jobs)
    return whole


class Remote(Documents):
    """Documents by digest: from the store, if they are there, else from the registry into it."""

    def __init__(self, repository: Repository, fetches: Fetches, blobs: Blobs, subject: str, hold: Hold) -> None:
        self._hold = hold
        self._fetches = fetches
        self._repository = repository
        self._blobs = blobs
        self._subject = subject

    async def get(self, descriptor: Descriptor) -> bytes:
        self._hold([descriptor])
        if await self._blobs.has(descriptor):
            return await store.document(self._blobs, descriptor, self._subject)
        found: Found = await self._repository.manifest(descriptor.digest)
        await self._fetches.keep(descriptor, found.data)
        return found.data
