"""A whole image from the store to a registry: blobs first, then what names them, the tag last.

What the registry has is not sent; what it has in another repository it is asked to take from there. A manifest with
a subject is added to the subject's fallback index where the registry does not say that it did so itself
(distribution-spec v1.1.1, "Pushing Manifests with Subject").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
import trio

from asyncrt.errors import BadImage, NoSuchObject
from asyncrt.images import blobs as store
from asyncrt.images import documents
from asyncrt.images.blobs import Blobs
from asyncrt.images.documents import Index, Manifest
from asyncrt.images.progress import Board, Post, Progress, State, posting
from asyncrt.images.together import together
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.reference import Reference
from asyncrt.registry import listing, uploads
from asyncrt.registry.client import Client, Repository
from asyncrt.registry.failures import Passing

_DEEPEST = 3


async def push(
    client: Client,
    blobs: Blobs,
    target: Descriptor,
    reference: Reference,
    mount_from: Sequence[str] = (),
    progress: trio.MemorySendChannel[Progress] | None = None,
) -> None:
    """Put `target` (a manifest or an index, with all that it names) under a name.

    `mount_from`: repositories of the same registry that may have blobs of it. NoSuchObject if a blob is not in the
    store: an index of which one platform was pulled cannot be pushed whole.
    """
    repository = client.repository(reference.host, reference.path)
    async with posting(progress) as board:
        job = _Push(repository, blobs, [path for path in mount_from if path != reference.path], board, str(reference))
        await job.manifest(target, reference.tag or target.digest)


class _Push:
    """One image on its way out."""

    def __init__(self, repository: Repository, blobs: Blobs, mount_from: list[str], board: Board, subject: str) -> None:
        self._repository = repository
        self._blobs = blobs
        self._mount_from = mount_from
        self._board = board
        self._subject = subject
        self._sent: set[str] = set()

    async def manifest(self, descriptor: Descriptor, target: str, depth: int = 0) -> None:
        """All that it names, then itself."""
        data = await self._document(descriptor)
        document = documents.read(data, descriptor.media_type, self._subject)
        if isinstance(document, Manifest):
            await self._parts(document)
        elif depth == _DEEPEST:
            raise BadImage("push", self._subject, f"its indexes are nested more than {_DEEPEST} deep")
        else:
            for entry in document.manifests:
                await self.manifest(entry, entry.digest, depth + 1)
        headers = await self._repository.put_manifest(data, document.media_type, target)
        if document.subject and "oci-subject" not in headers:
            await self._refer(document, descriptor, document.subject)

    async def _parts(self, manifest: Manifest) -> None:
        for layer in manifest.layers:
            if layer.media_type in media_types.NONDISTRIBUTABLE:
                documents.layers(manifest, self._subject)  # which says so
        parts = {part.digest: part for part in (manifest.config, *manifest.layers) if part.digest not in self._sent}
        await together(partial(self._blob, part, self._board.line(part)) for part in parts.values())

    async def _blob(self, descriptor: Descriptor, post: Post) -> None:
        post(State.WAITING, 0, "")
        if await self._there(descriptor):
            post(State.THERE, descriptor.size, "")
        elif await self._mounted(descriptor):
            post(State.MOUNTED, descriptor.size, "")
        else:
            reader = await self._open(descriptor)
            try:
                await uploads.push(self._repository, descriptor, reader, partial(_running, post))
            finally:
                with trio.CancelScope(shield=True):
                    await reader.close()
            post(State.DONE, descriptor.size, "")
        self._sent.add(descriptor.digest)

    async def _there(self, descriptor: Descriptor) -> bool:
        """Whether the registry has it. One that answers with its own failure is given the blob once more.

        A docker-registry that is killed while it notes a layer leaves an empty note: from then on it answers 500 to
        every question about that layer, until an upload writes the note anew.
        """
        try:
            return await self._repository.has(descriptor.digest, writing=True) is not None
        except Passing as error:
            if not error.answered:
                raise
            return False

    async def _mounted(self, descriptor: Descriptor) -> bool:
        for path in self._mount_from:
            if await uploads.mount(self._repository, descriptor.digest, path):
                return True
        return False

    async def _open(self, descriptor: Descriptor) -> store.Reader:
        if not await self._blobs.has(descriptor):
            raise self._lacking(descriptor)
        return await self._blobs.open(descriptor)

    async def _document(self, descriptor: Descriptor) -> bytes:
        if not await self._blobs.has(descriptor):
            raise self._lacking(descriptor)
        return await store.document(self._blobs, descriptor, self._subject)

    def _lacking(self, descriptor: Descriptor) -> NoSuchObject:
        what = "one of its platforms" if descriptor.media_type in media_types.MANIFESTS else "one of its blobs"
        hint = "push the image of one platform (--platform), or pull all of them"
        return NoSuchObject("push", self._subject, f"{what} is not here: {descriptor.digest}", hint)

    async def _refer(self, document: Manifest | Index, descriptor: Descriptor, subject: Descriptor) -> None:
        """Add the manifest to the index of its subject's fallback tag."""
        tag = listing.fallback_tag(subject.digest)
        entry = msgspec.structs.replace(
            descriptor,
            media_type=document.media_type,
            artifact_type=document.kind if isinstance(document, Manifest) else document.artifact_type,
            annotations=document.annotations or {},
            platform=None,
        )
        entries = await self._referred(tag)
        if all(one.digest != entry.digest for one in entries):
            index = Index(2, (*entries, entry), media_types.OCI_INDEX)
            await self._repository.put_manifest(documents.encode(index), media_types.OCI_INDEX, tag)

    async def _referred(self, tag: str) -> tuple[Descriptor, ...]:
        try:
            found = await self._repository.manifest(tag)
        except NoSuchObject:
            return ()
        index = documents.read(found.data, found.descriptor.media_type, f"{self._repository.name}:{tag}")
        return index.manifests if isinstance(index, Index) else ()


def _running(post: Post, offset: int) -> None:
    post(State.RUNNING, offset, "")
