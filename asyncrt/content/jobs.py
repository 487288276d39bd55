"""The content store for trio's jobs: the same blobs, the disk's work in threads.

What a job writes is gathered: a hop to a thread costs as much as the hash of 100 KiB, and a network gives 16.
"""

from __future__ import annotations

import contextlib
import os

import trio

from asyncrt.content.ingest import Ingest
from asyncrt.content.store import Content
from asyncrt.errors import StorageFailed
from asyncrt.model.descriptor import Descriptor

GATHER = 1 << 20


class Blobs:
    """Blobs and ingests of one Content, by descriptors."""

    def __init__(self, content: Content, limiter: trio.CapacityLimiter | None = None) -> None:
        self._content = content
        self._limiter = limiter

    async def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, with that size."""
        return self._content.size(descriptor.parsed) == descriptor.size

    async def open(self, descriptor: Descriptor) -> OpenBlob:
        """An open blob; as Content.open()."""
        blob = await trio.to_thread.run_sync(self._content.open, descriptor.parsed, limiter=self._limiter)
        return OpenBlob(blob, self._limiter)

    async def ingest(self, name: str, descriptor: Descriptor) -> JobIngest:
        """The ingest of that name, begun or resumed; as Content.ingest()."""
        inner = await trio.to_thread.run_sync(self._content.ingest, name, descriptor.parsed, limiter=self._limiter)
        return JobIngest(inner, descriptor, self._limiter)


class OpenBlob:
    """A blob that is read in pieces."""

    def __init__(self, blob: int, limiter: trio.CapacityLimiter | None) -> None:
        self._blob = blob
        self._limiter = limiter

    def fileno(self) -> int:
        """For who hands it on: sendfile, layers."""
        return self._blob

    async def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; empty only at the end."""
        return await trio.to_thread.run_sync(os.pread, self._blob, count, offset, limiter=self._limiter)

    async def close(self) -> None:
        """Let go of it; again is no error."""
        if self._blob >= 0:
            os.close(self._blob)
            self._blob = -1


class JobIngest:
    """A blob on its way in; `offset` counts what was taken over, also what is not on disk yet."""

    def __init__(self, inner: Ingest, descriptor: Descriptor, limiter: trio.CapacityLimiter | None) -> None:
        self._inner = inner
        self._descriptor = descriptor
        self._limiter = limiter
        self._gathered: list[bytes] = []
        self._waiting = 0

    @property
    def offset(self) -> int:
        return self._inner.offset + self._waiting

    async def write(self, data: bytes) -> None:
        """Append. StorageFailed: the disk is full; what fitted is kept."""
        self._gathered.append(data)
        self._waiting += len(data)
        if self._waiting >= GATHER:
            await self._flush()

    async def _flush(self) -> None:
        data, self._gathered, self._waiting = b"".join(self._gathered), [], 0
        if data:
            await trio.to_thread.run_sync(self._inner.write, data, limiter=self._limiter)

    async def commit(self) -> None:
        """Make it a blob. BadImage: size or digest differ; `offset` is 0 then."""
        await self._flush()
        await trio.to_thread.run_sync(self._inner.commit, self._descriptor.size, limiter=self._limiter)

    async def close(self) -> None:
        """Keep what came for the next try; also while being cancelled, and again."""
        with trio.CancelScope(shield=True):
            try:
                with contextlib.suppress(StorageFailed):  # what does not fit is fetched again
                    await self._flush()
            finally:
                await trio.to_thread.run_sync(self._inner.close, limiter=self._limiter)
