"""What is asked of a content store: blobs by digest, and ingests that a later try finishes.

    if not await blobs.has(descriptor):
        ingest = await blobs.ingest(descriptor.digest, descriptor)
        try:
            await ingest.write(data)       from ingest.offset on: an earlier try may have left a beginning
            await ingest.commit()          size and digest are checked here; from now on everybody sees it
        finally:
            await ingest.close()           what is not committed stays for the next try

A protocol and no class: the store keeps its own shape, and the tests have one of their own. One ingest of a name is
open at a time; `fetching` sees to that.
"""

from __future__ import annotations

from typing import Protocol

from asyncrt.errors import BadImage
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.model.descriptor import Descriptor


class Ingest(Protocol):
    """A blob on its way in."""

    @property
    def offset(self) -> int:
        """How many of its bytes are there."""

    async def write(self, data: bytes) -> None:
        """Append; StorageFailed if the disk will not."""

    async def commit(self) -> None:
        """Make it a blob. BadImage if size or digest differ: then what was written is gone, and `offset` is 0."""

    async def close(self) -> None:
        """Let go of it. May be called more than once, and while being cancelled."""


class Reader(Protocol):
    """A blob that is there, opened."""

    async def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; empty only at the end."""

    async def close(self) -> None: ...


class Blobs(Protocol):
    """The store. What is read of it was checked when it was committed."""

    async def has(self, descriptor: Descriptor) -> bool: ...

    async def open(self, descriptor: Descriptor) -> Reader:
        """NoSuchObject if it is not there."""

    async def ingest(self, name: str, descriptor: Descriptor) -> Ingest: ...


async def document(blobs: Blobs, descriptor: Descriptor, subject: str) -> bytes:
    """A small blob's bytes, checked again: manifests decide what is done."""
    check_size(descriptor, subject)
    reader = await blobs.open(descriptor)
    try:
        data = bytearray()
        while chunk := await reader.read_at(len(data), min(descriptor.size + 1 - len(data), 256 << 10)):
            data += chunk
    finally:
        await reader.close()
    descriptor.check(bytes(data))
    return bytes(data)


def check_size(descriptor: Descriptor, subject: str) -> None:
    """BadImage for a document that is bigger than any should be."""
    if descriptor.size > MAX_BYTES:
        cause = f"its {descriptor.media_type} has {descriptor.size} bytes, more than {MAX_BYTES >> 20} MiB"
        raise BadImage("read image", subject, cause)
