"""Names of images: what each means, which blobs that needs, and what is left without a name.

A name whose meaning changes leaves its image behind: it stays under its own digest as a name, listed as <none>, until
it is removed or pruned. So what a container was made of can still be committed, saved and inspected.

An image is found by name, by its id (the digest of its config) or by the digest of its manifest, each also without
"sha256:" and cut short.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping

from asyncrt.content.collect import reachable
from asyncrt.content.jobs import Blobs
from asyncrt.errors import AsyncrtError, Conflict, NoSuchObject
from asyncrt.images import blobs as store
from asyncrt.images import documents
from asyncrt.images.documents import Manifest
from asyncrt.metadata.changes import AppendEvent, Change, DropImage, DropLease, PutEdges, PutImage, PutLease
from asyncrt.metadata.writer import Writer
from asyncrt.model import reference as references
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import is_digest
from asyncrt.model.image import Edges, Lease, NamedImage

NONE = "<none>"
_ID = re.compile(r"(sha256:)?([0-9a-f]{4,64})")


class Names:
    """The names of one engine, in memory and in its records."""

    def __init__(self, writer: Writer, blobs: Blobs) -> None:
        self._writer = writer
        self._blobs = blobs
        self._names = {one.name: one for one in writer.store.load_images()}
        self.edges = {one.digest: one.children for one in writer.store.load_edges()}
        """Which blob refers to which."""

    def __iter__(self) -> Iterator[NamedImage]:
        return iter([self._names[name] for name in sorted(self._names)])

    def of(self, digest: str) -> list[NamedImage]:
        """All names of a target, its own digest too where it has no other."""
        return [one for one in self if one.target.digest == digest]

    def find(self, text: str) -> tuple[str, NamedImage]:
        """By name, id or digest. NoSuchObject; Conflict for a short id that several have."""
        try:
            named = self._names.get(str(references.parse(text)))
        except AsyncrtError:
            if not _ID.fullmatch(text):
                raise
            named = None
        if named is not None:
            return named.name, named
        if match := _ID.fullmatch(text):
            found = {one.target.digest: one for one in self if self._is(one.target.digest, match[2])}
            if len(found) > 1:
                raise Conflict("find image", text, f"{len(found)} images have an id that begins so", "write more of it")
            for one in found.values():
                return one.name, one
        shown = text if match else references.parse(text).familiar()
        raise NoSuchObject("find image", shown, "it is not here", f"asyncrt pull {text}")

    def _is(self, digest: str, wanted: str) -> bool:
        return any(one.partition(":")[2].startswith(wanted) for one in self._identities(digest))

    def _identities(self, digest: str) -> set[str]:
        """The digest of a manifest or index, and those of the configs and manifests below it."""
        children = self.edges.get(digest, ())
        if children and children[0] not in self.edges:
            return {digest, children[0]}  # a manifest: its config comes first
        return {digest}.union(*(self._identities(child) for child in children if child in self.edges))

    async def put(self, name: str, target: Descriptor) -> None:
        """Let the name mean this; "" for none but its own digest. What it meant before keeps its digest as a name."""
        edges = await self._children(target, name or target.digest)
        named = NamedImage(name or target.digest, target, time.time_ns())
        changes: list[Change] = [PutImage(named), *(PutEdges(Edges(*pair)) for pair in edges.items())]
        before = self._names.get(named.name)
        left = None
        if before is not None and before.target.digest != target.digest and len(self.of(before.target.digest)) == 1:
            left = NamedImage(before.target.digest, before.target, before.updated_ns)
            changes.append(PutImage(left))
        bare = name and target.digest in self._names
        if bare:
            changes.append(DropImage(target.digest))
        await self._writer.commit([*changes, AppendEvent("tag", target.digest, name)])
        if bare:
            self._names.pop(target.digest, None)
        if left is not None:
            self._names[left.name] = left
        self._names[named.name] = named
        self.edges.update(edges)

    async def drop(self, named: NamedImage) -> None:
        """Forget a name."""
        await self._writer.commit([DropImage(named.name), AppendEvent("untag", named.target.digest, named.name)])
        self._names.pop(named.name, None)

    def reachable(self) -> set[str]:
        """The blobs that some name needs."""
        return reachable([one.target.digest for one in self], self.edges)

    async def lease(self, lease: Lease) -> None:
        """Remember what is being made, before it is there."""
        await self._writer.commit([PutLease(lease)])

    async def end_lease(self, lease: Lease) -> None:
        await self._writer.commit([DropLease(lease.id)])

    async def _children(self, target: Descriptor, subject: str) -> Mapping[str, tuple[str, ...]]:
        """Which blob refers to which, as far as they are here."""
        found: dict[str, tuple[str, ...]] = {}
        waiting = [target]
        while waiting:
            one = waiting.pop()
            if one.digest in found or not await self._blobs.has(one):
                continue
            document = documents.read(await store.document(self._blobs, one, subject), one.media_type, subject)
            if isinstance(document, Manifest):
                parts = (document.config, *document.layers)
            else:
                parts = document.manifests
                waiting += parts
            found[one.digest] = tuple(part.digest for part in parts)
        return found


def is_bare(name: str) -> bool:
    """Whether a name is none that somebody gave: its image has only its digest."""
    return is_digest(name)


def familiar(name: str) -> str:
    """As people write it."""
    return NONE if is_bare(name) else references.parse(name).familiar()
