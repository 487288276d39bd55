"""One fetch a digest, however many pulls wait for it.

    async with open_fetches(blobs) as fetches:
        await fetches.fetch(repository, descriptor, post)

A fetch belongs to nobody who waits for it: a waiter that is cancelled leaves the others what they wait for, and the
last one to leave ends it. What it has written stays in the ingest, and the next fetch begins there. A waiter from
another repository whose predecessor failed tries its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from asyncrt.errors import AsyncrtError, BadImage, Unavailable
from asyncrt.images.blobs import Blobs, Ingest
from asyncrt.images.progress import Post, State
from asyncrt.model.descriptor import Descriptor
from asyncrt.registry.client import Repository
from asyncrt.registry.failures import Passing


class _Job:
    """One fetch under way, and who waits."""

    def __init__(self, repository: Repository, descriptor: Descriptor) -> None:
        self.repository = repository
        self.descriptor = descriptor
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self.posts: list[Post] = []
        self.last: tuple[State, int, str] = (State.WAITING, 0, "")
        self.error: Exception | None = None
        self.complete = False

    def post(self, state: State, done: int, note: str = "") -> None:
        self.last = (state, done, note)
        for post in self.posts:
            post(state, done, note)


class Fetches:
    """The fetches of one store."""

    def __init__(self, blobs: Blobs, nursery: trio.Nursery) -> None:
        self._blobs = blobs
        self._nursery = nursery
        self._jobs: dict[str, _Job] = {}
        self._documents = trio.Lock()

    async def keep(self, descriptor: Descriptor, data: bytes) -> None:
        """Put the bytes of a document into the store, if they are not there. BadImage if they are not what it says."""
        descriptor.check(data)
        async with self._documents:
            if await self._blobs.has(descriptor):
                return
            # A name of its own: a hostile image may call somebody's manifest its layer.
            ingest = await self._blobs.ingest(f"document {descriptor.digest}", descriptor)
            try:
                await _write_all(ingest, data)
            finally:
                await ingest.close()

    async def fetch(self, repository: Repository, descriptor: Descriptor, post: Post) -> None:
        """Return when the blob is in the store. Raises what the fetch failed with."""
        while True:
            if await self._blobs.has(descriptor):
                return post(State.THERE, descriptor.size, "")
            job = self._jobs.get(descriptor.digest)
            if job is not None and (job.scope.cancel_called or job.descriptor.size != descriptor.size):
                await job.done.wait()  # it is being given up, or was told another size: one of the two is wrong
                continue
            if job is None:
                job = self._begin(repository, descriptor)
            await self._wait(job, post)
            if job.complete:
                return
            if self._nursery.cancel_scope.cancel_called:
                raise Unavailable("pull blob", descriptor.digest, "the engine is being stopped")
            if job.error is not None and job.repository.name == repository.name:
                raise _again(job.error)

    def _begin(self, repository: Repository, descriptor: Descriptor) -> _Job:
        job = self._jobs[descriptor.digest] = _Job(repository, descriptor)
        self._nursery.start_soon(self._run, job, name=f"fetch {descriptor.digest}")
        return job

    async def _wait(self, job: _Job, post: Post) -> None:
        job.posts.append(post)
        post(*job.last)
        try:
            await job.done.wait()
        finally:
            job.posts.remove(post)
            if not job.posts and not job.done.is_set():
                job.scope.cancel()

    async def _run(self, job: _Job) -> None:
        try:
            with job.scope:
                ingest = await self._blobs.ingest(job.descriptor.digest, job.descriptor)
                try:
                    await self._fill(job, ingest)
                finally:
                    await ingest.close()
                job.complete = True
                job.post(State.DONE, job.descriptor.size)
        except Exception as error:  # noqa: BLE001 - every waiter raises it; here it would end everybody's fetches
            job.error = error
            job.post(State.FAILED, job.last[1], str(error))
        finally:
            del self._jobs[job.descriptor.digest]
            job.done.set()

    async def _fill(self, job: _Job, ingest: Ingest) -> None:
        """Fetch and commit. What turns out wrong is fetched once more from its first byte, past the mirrors.

        The first half may be an old one of a disk that lost it, or a mirror's.
        """

        async def write(chunk: bytes) -> None:
            await ingest.write(chunk)
            job.post(State.RUNNING, ingest.offset)

        def cut(error: Passing) -> None:
            job.post(State.RETRYING, ingest.offset, error.cause)

        for direct in (False, True):
            if ingest.offset:
                job.post(State.RUNNING, ingest.offset)
            await job.repository.blob(job.descriptor, write, ingest.offset, cut, direct)
            job.post(State.CHECKING, ingest.offset)
            try:
                return await ingest.commit()
            except BadImage as error:
                if direct:
                    raise
                job.post(State.RETRYING, 0, error.cause)


@contextlib.asynccontextmanager
async def open_fetches(blobs: Blobs) -> AsyncIterator[Fetches]:
    """The fetches of a store while the block lasts; at its end those under way are given up, resumable."""
    failure: AsyncrtError | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield Fetches(blobs, nursery)
        except AsyncrtError as error:
            failure = error  # raised below: the nursery would make a group of it
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _write_all(ingest: Ingest, data: bytes) -> None:
    begun = ingest.offset
    await ingest.write(data[begun:])
    try:
        await ingest.commit()
    except BadImage:
        if not begun:
            raise
        await ingest.write(data)  # the beginning of an earlier try was rotten, and is gone now
        await ingest.commit()


def _again(error: Exception) -> Exception:
    """The error for one more waiter: an exception that is raised twice mixes up its tracebacks."""
    if isinstance(error, AsyncrtError):
        return type(error)(error.deed, error.subject, error.cause, error.hint, error.code)
    return error
