"""Registries, asked: one client for all of them, a Repository for each path.

    async with open_client(settings, credentials) as client:
        repository = client.repository(reference)
        found = await repository.manifest(reference.target)      bytes, media type, digest; checked
        await repository.blob(descriptor, write)                 its bytes to `write`, resumed after cuts

What is read is tried at each endpoint (mirrors first) and again after a wait while it fails in a Passing way.
Digests of manifests are checked here; a blob's size is, its digest is the content store's to check, which sees all
of its bytes also when the first half came yesterday. Source: OCI distribution-spec v1.1.1.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from asyncrt.errors import AsyncrtError, BadImage, NoSuchObject, RegistryFailed, shown
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.digest import Digest, is_digest
from asyncrt.registry import attempts
from asyncrt.registry.addresses import Reach
from asyncrt.registry.attempts import POLICY, Policy
from asyncrt.registry.credentials import Credentials
from asyncrt.registry.dialing import Resolver, resolve
from asyncrt.registry.endpoints import Endpoint, Settings, endpoints
from asyncrt.registry.exchange import LIMITS, Answer, Body, Exchanges, Limits, Request, same_origin
from asyncrt.registry.failures import Passing
from asyncrt.registry.tokens import Scopes, Tokens, scope

MANIFEST_BYTES = 4 << 20

_T = TypeVar("_T")


class Found(NamedTuple):
    """A manifest as it came: nobody has looked into it yet."""

    descriptor: Descriptor
    data: bytes


class Client:
    """What all repositories share: connections, tokens, and which endpoint of a host answered."""

    def __init__(
        self, settings: Settings, credentials: Credentials, policy: Policy, limits: Limits, resolver: Resolver
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.exchanges = Exchanges(settings, limits, resolver)
        self._tokens = Tokens(self.exchanges, credentials)
        self._answered: set[str] = set()

    def repository(self, host: str, path: str) -> Repository:
        return Repository(self, host, path)

    async def check(self, host: str) -> None:
        """Whether the credentials of `host` are taken: RegistryFailed if not (`login`)."""
        await self.repository(host, "").ping()

    def forget_logins(self) -> None:
        """The credentials have changed."""
        self._tokens.forget()

    def endpoints(self, host: str, writing: bool) -> list[Endpoint]:
        """Where to ask; of an insecure host's two schemes the one that it has answered to."""
        found = endpoints(host, self.settings, writing)
        silent = {_other_scheme(one.url) for one in found if one.url in self._answered}
        return [one for one in found if one.url not in silent]

    def last_word(self, endpoint: Endpoint) -> bool:
        """Whether its failure is final: a mirror's is not, nor that of an insecure host which did not answer at all."""
        doubtful = endpoint.insecure and endpoint.url not in self._answered
        return not endpoint.namespace and not doubtful

    @contextlib.asynccontextmanager
    async def ask(self, endpoint: Endpoint, request: Request, path: str, scopes: Scopes) -> AsyncIterator[Answer]:
        """The answer to `request`, with the header that the endpoint wants."""
        # An upload may go on at another origin, which signs its URLs: the header is none of its business.
        foreign = not same_origin(request.url, endpoint.url)
        header = "" if foreign else self._tokens.known(endpoint, scopes)
        for last in (foreign, True):
            headers = dict(request.headers)
            if header:
                headers["Authorization"] = header
            async with self.exchanges.send(request._replace(headers=headers)) as answer:
                if answer.status != 401 or last:
                    self._answered.add(endpoint.url)
                    yield answer
                    return
                refused = answer
            header = await self._tokens.obtain(endpoint, refused, path, scopes, header)


@contextlib.asynccontextmanager
async def open_client(
    settings: Settings,
    credentials: Credentials,
    policy: Policy = POLICY,
    limits: Limits = LIMITS,
    resolver: Resolver = resolve,
) -> AsyncIterator[Client]:
    """A client while the block lasts; then its connections are closed."""
    client = Client(settings, credentials, policy, limits, resolver)
    try:
        yield client
    finally:
        await client.exchanges.close()


class Repository:
    """One path on one host."""

    def __init__(self, client: Client, host: str, path: str) -> None:
        self.client = client
        self.host = host
        self.path = path

    @property
    def name(self) -> str:
        return f"{self.host}/{self.path}"

    async def ping(self) -> None:
        """Whether the host answers and takes our credentials."""
        await self.read("log in to", self.host, "GET", "", {}, _nothing, scopes=frozenset())

    async def resolve(self, target: str) -> Descriptor:
        """The descriptor of what a tag or digest names. Without a body where the registry says enough in headers."""

        async def take(answer: Answer) -> Descriptor | None:
            digest = answer.headers.get("docker-content-digest", "")
            good = is_digest(digest) and answer.length is not None and (not is_digest(target) or digest == target)
            return Descriptor(_media_type(answer), digest, answer.length or 0) if good else None

        where = f"manifests/{quote(target, safe=':')}"
        found = await self.read("resolve", self._named(target), "HEAD", where, _accepting(), take)
        return found or (await self.manifest(target)).descriptor

    async def manifest(self, target: str) -> Found:
        """The manifest or index that a tag or digest names; its bytes have that digest. BadImage if they have not."""
        subject = self._named(target)

        async def take(answer: Answer) -> Found:
            data = await answer.read(MANIFEST_BYTES)
            says = answer.headers.get("docker-content-digest", "")
            wanted = target if is_digest(target) else says if is_digest(says) else ""
            made = describe(data, _media_type(answer), Digest.parse(wanted).algorithm if wanted else "sha256")
            if wanted and made.digest != wanted:
                raise BadImage("pull manifest", subject, f"the registry says {wanted} and sends {made.digest}")
            return Found(made, data)

        return await self.read(
            "pull manifest", subject, "GET", f"manifests/{quote(target, safe=':')}", _accepting(), take
        )

    async def blob(
        self,
        descriptor: Descriptor,
        write: Callable[[bytes], Awaitable[None]],
        offset: int = 0,
        on_cut: Callable[[Passing], None] | None = None,
        direct: bool = False,
    ) -> None:
        """Hand the bytes of a blob from `offset` on to `write`, as many as the descriptor says.

        A cut is followed by a request for the rest (`on_cut` is told); attempts count anew when one brought
        something. Then the blob is complete by its size. BadImage if the registry has another size. `direct`: past
        the mirrors.
        """
        download = _Download(self, descriptor, write, offset, direct)
        failed = 0
        while not download.complete:
            before = download.offset
            try:
                await download.attempt()
            except Passing as error:
                failed = 1 if download.offset - before >= _WORTH_AN_ATTEMPT else failed + 1
                if on_cut:
                    on_cut(error)
                await attempts.pause(error, failed, self.client.policy)

    async def has(self, digest: str, writing: bool = False) -> int | None:
        """The size of a blob that is there, None if it is not."""

        async def take(answer: Answer) -> int | None:
            return answer.length

        scopes = self.scopes(writing)
        try:
            size = await self.read(
                "look for blob", self._named(digest), "HEAD", f"blobs/{digest}", {}, take, scopes, writing
            )
        except NoSuchObject:
            return None
        return size or 0

    async def put_manifest(self, data: bytes, media_type: str, target: str) -> Mapping[str, str]:
        """Store a manifest under a tag or its digest; the answer's headers. What it names must be there already."""

        async def take(answer: Answer) -> Mapping[str, str]:
            return answer.headers

        return await self.write(
            "push manifest",
            target,
            "PUT",
            f"manifests/{quote(target, safe=':')}",
            {"Content-Type": media_type},
            take,
            data,
        )

    async def delete(self, digest: str) -> None:
        """Remove a manifest (a tag, where the registry allows that)."""
        await self.write("delete manifest", digest, "DELETE", f"manifests/{quote(digest, safe=':')}", {}, _nothing)

    # -- how it is asked

    def scopes(self, writing: bool = False) -> Scopes:
        return frozenset({scope(self.path, "pull", "push") if writing else scope(self.path, "pull")})

    async def read(
        self,
        deed: str,
        subject: str,
        method: str,
        where: str,
        headers: Mapping[str, str],
        take: Callable[[Answer], Awaitable[_T]],
        scopes: Scopes | None = None,
        writing: bool = False,
    ) -> _T:
        """What `take` makes of the first success, at whichever endpoint; with waits between attempts."""
        return await attempts.insist(
            lambda: self.once(deed, subject, method, where, headers, take, scopes, writing), self.client.policy
        )

    async def write(
        self,
        deed: str,
        target: str,
        method: str,
        where: str,
        headers: Mapping[str, str],
        take: Callable[[Answer], Awaitable[_T]],
        body: Body = b"",
        scopes: Scopes | None = None,
    ) -> _T:
        """The same at the host itself, for a request that may be repeated."""
        scopes = scopes or self.scopes(writing=True)
        return await attempts.insist(
            lambda: self.once(deed, self._named(target), method, where, headers, take, scopes, True, body),
            self.client.policy,
        )

    async def once(
        self,
        deed: str,
        subject: str,
        method: str,
        where: str,
        headers: Mapping[str, str],
        take: Callable[[Answer], Awaitable[_T]],
        scopes: Scopes | None = None,
        writing: bool = False,
        body: Body = b"",
        source: Reach | None = None,
    ) -> _T:
        """One attempt: each endpoint in turn until one has it. The last one's failure is what is told."""
        places = self.client.endpoints(self.host, writing)
        for number, endpoint in enumerate(places, 1):
            request = self.request(endpoint, deed, subject, method, where, headers, body)._replace(source=source)
            try:
                async with self.client.ask(endpoint, request, self.path, self._scopes(scopes)) as answer:
                    if not 200 <= answer.status < 300:
                        raise await answer.error()
                    return await take(answer)
            except AsyncrtError:
                if number == len(places) or self.client.last_word(endpoint):
                    raise
        raise RegistryFailed(deed, subject, f"there is no endpoint of {self.host}")

    def request(
        self,
        endpoint: Endpoint,
        deed: str,
        subject: str,
        method: str,
        where: str,
        headers: Mapping[str, str],
        body: Body = b"",
    ) -> Request:
        """A request to an endpoint; `where` is a URL, or a place below the repository."""
        url = where
        if "://" not in where:
            middle = f"{quote(self.path)}/{where}" if self.path else where
            mark = "&" if "?" in where else "?"
            url = f"{endpoint.url}/v2/{middle}" + (
                f"{mark}ns={quote(endpoint.namespace)}" if endpoint.namespace else ""
            )
        return Request(method, url, deed, subject, endpoint.host, endpoint.insecure, headers, body)

    def _scopes(self, scopes: Scopes | None) -> Scopes:
        return self.scopes() if scopes is None else scopes

    def _named(self, target: str) -> str:
        return self.name + ("@" if is_digest(target) else ":") + target


_WORTH_AN_ATTEMPT = 256 << 10  # bytes: a server that sends one and breaks off is not asked for ever


class _Download:
    """A blob on its way: what has come, and how to ask for the rest."""

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        write: Callable[[bytes], Awaitable[None]],
        offset: int,
        direct: bool,
    ) -> None:
        self._direct = direct
        self.offset = offset
        self._asked = 0
        self._repository = repository
        self._descriptor = descriptor
        self._write = write
        self._subject = f"{descriptor.digest} of {repository.name}"

    @property
    def complete(self) -> bool:
        return self.offset == self._descriptor.size

    async def attempt(self) -> None:
        self._asked = self.offset
        headers = {"Range": f"bytes={self._asked}-"} if self._asked else {}
        where = f"blobs/{self._descriptor.digest}"
        await self._repository.once("pull blob", self._subject, "GET", where, headers, self._take, writing=self._direct)

    async def _take(self, answer: Answer) -> None:
        size = self._descriptor.size
        # A server that knows no ranges begins anew; a mirror that broke off was a few bytes further than was asked for.
        begin = self._asked if answer.status == 206 else 0
        skip = self.offset - begin
        if answer.status == 206 and not _is_range(answer.headers.get("content-range", ""), begin, size):
            raise self._refused(f"the registry sends {shown(answer.headers.get('content-range', 'no range'))}")
        if answer.length is not None and answer.length != size - begin:
            raise self._refused(f"the registry has {answer.length + begin} bytes")

        async def write(chunk: bytes) -> None:
            nonlocal skip
            if skip:
                cut = min(skip, len(chunk))
                skip -= cut
                chunk = chunk[cut:]
            if len(chunk) > size - self.offset:
                raise self._refused("the registry sends more")
            if chunk:
                await self._write(chunk)
                self.offset += len(chunk)

        await answer.pour(write)
        if not self.complete:  # of a body without a length: it may be a cut
            raise Passing("pull blob", self._subject, f"it ended after {self.offset} of {size} bytes")

    def _refused(self, cause: str) -> BadImage:
        return BadImage("pull blob", self._subject, f"{cause}, where its descriptor says {self._descriptor.size} bytes")


def _is_range(text: str, begin: int, size: int) -> bool:
    """Whether a Content-Range is what was asked for: from `begin` to the end of `size` bytes."""
    return text.replace(" ", "") in (f"bytes{begin}-{size - 1}/{size}", f"bytes{begin}-{size - 1}/*")


def _other_scheme(url: str) -> str:
    return url.replace("https:", "http:") if url.startswith("https:") else url.replace("http:", "https:")


def _media_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()[:255]


def _accepting() -> dict[str, str]:
    return {"Accept": ", ".join(media_types.ACCEPTED)}


async def _nothing(answer: Answer) -> None:
    await answer.drain()
