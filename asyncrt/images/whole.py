"""An image as it is: a manifest of any platform, or an index with all of them, from a registry into the store.

`pull` chooses what this machine can run and refuses the rest; who moves images takes also what others run.
"""

from __future__ import annotations

from functools import partial

import trio

from asyncrt.errors import BadImage
from asyncrt.images import documents, image
from asyncrt.images.blobs import Blobs, check_size
from asyncrt.images.documents import Manifest
from asyncrt.images.fetching import Fetches
from asyncrt.images.progress import Board, Progress, posting
from asyncrt.images.pull import Remote
from asyncrt.images.together import together
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, Platform
from asyncrt.model.reference import Reference
from asyncrt.registry.client import Client, Repository

_DEEPEST = 3


async def fetch(
    client: Client,
    fetches: Fetches,
    blobs: Blobs,
    reference: Reference,
    wanted: Platform | None,
    progress: trio.MemorySendChannel[Progress] | None = None,
) -> Descriptor:
    """The image of that name with all that it names. `wanted`: of an index the one of this platform; None: all.

    NoSuchObject, BadImage, RegistryFailed or StorageFailed; what has arrived by then stays for the next try.
    """
    repository = client.repository(reference.host, reference.path)
    async with posting(progress) as board:
        found = await repository.manifest(reference.target)
        await fetches.keep(found.descriptor, found.data)
        job = _Whole(repository, fetches, blobs, board, str(reference))
        if wanted is None:
            await job.take(found.descriptor, found.data, 0)
            return found.descriptor
        target, manifest = await image.choose(job.source, found.descriptor, found.data, wanted, str(reference))
        await job.parts(manifest)
        return target


class _Whole:
    """One image on its way in."""

    def __init__(self, repository: Repository, fetches: Fetches, blobs: Blobs, board: Board, subject: str) -> None:
        self.source = Remote(repository, fetches, blobs, subject, lambda descriptors: None)
        self._repository = repository
        self._fetches = fetches
        self._board = board
        self._subject = subject

    async def take(self, target: Descriptor, data: bytes, depth: int) -> None:
        document = documents.read(data, target.media_type, self._subject)
        if isinstance(document, Manifest):
            return await self.parts(document)
        if depth == _DEEPEST:
            raise BadImage("copy", self._subject, f"its indexes are nested more than {_DEEPEST} deep")
        for entry in document.manifests:
            check_size(entry, self._subject)
            await self.take(entry, await self.source.get(entry), depth + 1)

    async def parts(self, manifest: Manifest) -> None:
        """Config and layers, or whatever an artifact has in their places."""
        if any(layer.media_type in media_types.NONDISTRIBUTABLE for layer in manifest.layers):
            documents.layers(manifest, self._subject)  # which says so
        parts = {part.digest: part for part in (manifest.config, *manifest.layers)}
        await together(
            partial(self._fetches.fetch, self._repository, part, self._board.line(part)) for part in parts.values()
        )
