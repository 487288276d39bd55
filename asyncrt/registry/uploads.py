"""Blobs to a registry: mounted from beside it, whole in one request, or in chunks that a cut costs one of.

    POST blobs/uploads/?mount=DIGEST&from=PATH      201: it is there; 202: an upload was begun instead
    POST blobs/uploads/                             202, Location
    PUT LOCATION?digest=DIGEST   with all of it     small blobs
    PATCH LOCATION               with a chunk       202, Location, Range: 0-LAST
    GET LOCATION                                    204, Range: what has arrived (after a cut)
    PUT LOCATION?digest=DIGEST                      201: the registry has checked the digest

A Location may be anywhere; it is followed as a redirect is, and the header of the host goes to the host alone.
Source: distribution-spec v1.1.1, "Pushing Blobs".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from asyncrt.errors import NoSuchObject, RegistryFailed
from asyncrt.model.descriptor import Descriptor
from asyncrt.registry import attempts
from asyncrt.registry.addresses import Reach
from asyncrt.registry.client import Repository
from asyncrt.registry.exchange import Answer, Body
from asyncrt.registry.failures import Passing
from asyncrt.registry.tokens import scope

WHOLE_BYTES = 8 << 20  # up to here a cut costs less than the requests for chunks
CHUNK_BYTES = 32 << 20
_READ_BYTES = 256 << 10
_LARGEST_CHUNK = 1 << 30
_DEED = "push blob"

_T = TypeVar("_T")


class Source(Protocol):
    """Where a blob's bytes come from."""

    async def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes; empty only at the end."""


async def mount(repository: Repository, digest: str, from_path: str) -> bool:
    """Let the registry take the blob from another of its repositories; False if it did not (then nothing was begun)."""

    async def take(answer: Answer) -> tuple[int, str]:
        await answer.drain()
        return answer.status, await _location(repository, answer) if answer.status == 202 else ""

    where = f"blobs/uploads/?{urlencode({'mount': digest, 'from': from_path})}"
    scopes = repository.scopes(writing=True) | {scope(from_path, "pull")}
    try:
        status, location = await repository.write(_DEED, digest, "POST", where, {}, take, scopes=scopes)
    except (NoSuchObject, RegistryFailed):
        return False  # it may not be ours to read there; the upload itself tells what is wrong with this repository
    if status == 201:
        return True
    await _cancel(repository, digest, location)
    return False


async def push(
    repository: Repository,
    descriptor: Descriptor,
    source: Source,
    on_progress: Callable[[int], None] = lambda offset: None,
    chunk_bytes: int = CHUNK_BYTES,
) -> None:
    """Bring the blob there. `on_progress` is told how many bytes the registry has; fewer than before, after a cut."""
    upload = _Upload(repository, descriptor, source, on_progress, chunk_bytes)
    failed = 0
    while True:
        before = upload.offset
        try:
            return await upload.attempt()
        except Passing as error:
            failed = 1 if upload.offset > before else failed + 1
            await attempts.pause(error, failed, repository.client.policy)
        except NoSuchObject as error:
            # The registry has forgotten the upload, by a restart perhaps; without one there is no such repository.
            failed += 1
            if not upload.forget() or failed >= repository.client.policy.attempts:
                raise error


class _Place(NamedTuple):
    """Where an upload goes on, how far away is who said so, and how short a chunk may be."""

    url: str
    reach: Reach | None = None
    least: int = 0


class _Upload:
    """One blob on its way out: where it goes on, and how much has arrived."""

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        source: Source,
        on_progress: Callable[[int], None],
        chunk_bytes: int,
    ) -> None:
        self.offset = 0
        self._repository = repository
        self._descriptor = descriptor
        self._source = source
        self._on_progress = on_progress
        self._chunk_bytes = chunk_bytes
        self._place: _Place | None = None

    def forget(self) -> bool:
        """Begin anew at the next attempt; whether anything had begun."""
        begun, self._place = self._place is not None, None
        return begun

    async def attempt(self) -> None:
        """The rest of it. After a failure the registry is asked what it has; does it not know, all begins anew."""
        if self._place is not None and not await self._resume():
            self._place = None
        if self._place is None:
            self.offset = 0
            self._place = await self._ask("POST", "blobs/uploads/", {}, self._begun)
        if self._descriptor.size <= WHOLE_BYTES and not self.offset:
            return await self._close(0, self._descriptor.size)
        while self.offset < self._descriptor.size:
            await self._chunk(self._place)
        await self._close(self.offset, 0)

    async def _resume(self) -> bool:
        assert self._place is not None

        async def take(answer: Answer) -> _Place:
            arrived = _arrived(answer)
            if arrived is None or arrived > self._descriptor.size:
                raise RegistryFailed(_DEED, self._subject, "the registry does not say what it has")
            self.offset = arrived
            return await self._begun(answer)

        try:
            self._place = await self._ask("GET", self._place.url, {}, take)
        except Passing:
            raise
        except (NoSuchObject, RegistryFailed):
            return False
        self._on_progress(self.offset)
        return True

    async def _chunk(self, place: _Place) -> None:
        count = min(max(self._chunk_bytes, place.least), _LARGEST_CHUNK, self._descriptor.size - self.offset)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(count),
            "Content-Range": f"{self.offset}-{self.offset + count - 1}",
        }
        sent = self.offset + count

        async def take(answer: Answer) -> _Place:
            arrived = _arrived(answer)
            if arrived is not None and not self.offset < arrived <= sent:
                raise RegistryFailed(_DEED, self._subject, f"the registry counts {arrived} bytes, not {sent}")
            self.offset = sent if arrived is None else arrived
            return await self._begun(answer)

        self._place = await self._ask("PATCH", place.url, headers, take, self._body(self.offset, count))
        self._on_progress(self.offset)

    async def _close(self, offset: int, count: int) -> None:
        assert self._place is not None
        mark = "&" if urlsplit(self._place.url).query else "?"
        url = f"{self._place.url}{mark}digest={quote(self._descriptor.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(count)}
        await self._ask("PUT", url, headers, _done, self._body(offset, count) if count else b"")
        self.offset = self._descriptor.size
        self._on_progress(self.offset)

    def _body(self, offset: int, count: int) -> Body:
        async def chunks() -> AsyncGenerator[bytes, None]:
            place, end = offset, offset + count
            while place < end:
                chunk = await self._source.read_at(place, min(_READ_BYTES, end - place))
                if not chunk:
                    raise RegistryFailed(_DEED, self._subject, f"its file ends after {place} of {end} bytes")
                yield chunk
                place += len(chunk)
                self._on_progress(place)

        return chunks

    async def _begun(self, answer: Answer) -> _Place:
        least = answer.headers.get("oci-chunk-min-length", "")
        known = int(least) if least.isascii() and least.isdigit() and len(least) < 12 else 0
        before = self._place.least if self._place else 0
        return _Place(await _location(self._repository, answer), answer.reach, known or before)

    async def _ask(
        self,
        method: str,
        where: str,
        headers: dict[str, str],
        take: Callable[[Answer], Awaitable[_T]],
        body: Body = b"",
    ) -> _T:
        source = self._place.reach if self._place else None
        scopes = self._repository.scopes(writing=True)
        return await self._repository.once(
            _DEED, self._subject, method, where, headers, take, scopes, True, body, source
        )

    @property
    def _subject(self) -> str:
        return f"{self._descriptor.digest} to {self._repository.name}"


async def _location(repository: Repository, answer: Answer) -> str:
    if "location" not in answer.headers:
        raise answer.refused("the registry does not say where an upload goes on")
    return await repository.client.exchanges.follow(answer)


def _arrived(answer: Answer) -> int | None:
    """How many bytes the registry has, by `Range: 0-LAST`; None if it does not say.

    "0-0" is what registries say of no byte and of one alike: taken as none, which at worst sends one byte twice.
    """
    first, _, last = answer.headers.get("range", "").removeprefix("bytes=").partition("-")
    if first != "0" or not (last.isascii() and last.isdigit() and len(last) < 20):
        return None
    return int(last) + 1 if int(last) else 0


async def _cancel(repository: Repository, digest: str, location: str) -> None:
    """An upload that nobody wants is taken back, if the registry lets us; else it forgets it by itself."""
    try:
        await repository.once(
            "cancel upload", digest, "DELETE", location, {}, _done, repository.scopes(writing=True), True
        )
    except (NoSuchObject, RegistryFailed):
        return


async def _done(answer: Answer) -> None:
    await answer.drain()
