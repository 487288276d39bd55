"""One request and its answer: bounded in time, bytes and connections; redirects are followed by rules.

    async with exchanges.send(request) as answer:
        answer.status, answer.headers
        await answer.read(limit)            a document, within a deadline of its own
        await answer.pour(write)            a body of any size, at a pace

Time: a read that brings nothing ends after `Limits.silence`; a body that trickles (slow-loris) ends when a window of
`Limits.window` brought less than `Limits.least`; a document ends after `Limits.document` altogether.
Redirects: GET and HEAD alone; from https to https; to no address that `addresses` refuses; `Authorization` goes to the
origin that it was made for and nowhere else (CVE-2020-15157).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore2
import trio

from asyncrt import __version__
from asyncrt.errors import RegistryFailed, shown
from asyncrt.registry import addresses, endpoints, failures
from asyncrt.registry.addresses import Reach
from asyncrt.registry.attempts import retry_after
from asyncrt.registry.dialing import Dialer, Resolver, resolve
from asyncrt.registry.endpoints import Trust

Body = bytes | Callable[[], AsyncGenerator[bytes, None]]
Write = Callable[[bytes], Awaitable[None]]

_MOST_REDIRECTS = 5
_LONGEST_URL = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_WAITING = frozenset({429, 503})
_ERROR_BYTES = 64 << 10
_AGENT = f"asyncrt/{__version__}"


class Limits(NamedTuple):
    """Seconds, bytes and connections that an exchange may take."""

    connect: float = 10.0
    silence: float = 30.0
    document: float = 60.0
    window: float = 30.0
    least: int = 30 << 10
    per_host: int = 8
    altogether: int = 64
    idle_seconds: float = 30.0


LIMITS = Limits()


class Request(NamedTuple):
    """What is asked. `deed` and `subject` are what an error says, `host` whom its hint names.

    `source`: how far away is who gave us the URL, where that was not the user.
    """

    method: str
    url: str
    deed: str
    subject: str
    host: str
    insecure: bool = False
    headers: Mapping[str, str] = {}
    body: Body = b""
    source: Reach | None = None


class Answer:
    """A status, headers (their names in lower case; the last of a name wins) and a body that is read at most once."""

    def __init__(
        self, request: Request, url: str, response: httpcore2.Response, limits: Limits, broken: Broken
    ) -> None:
        self.status = response.status
        self.url = url
        self.challenges = [_text(value) for name, value in response.headers if name.lower() == b"www-authenticate"]
        self.headers = {_text(name).lower(): _text(value) for name, value in response.headers}
        self.reach = _reach_of(response)
        self.request = request
        self._response = response
        self._limits = limits
        self._broken = broken
        self._begun = False

    @property
    def length(self) -> int | None:
        """Content-Length, where it is one."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    async def read(self, limit: int) -> bytes:
        """The body; RegistryFailed if it has more than `limit` bytes."""
        found = bytearray()

        async def add(chunk: bytes) -> None:
            found.extend(chunk)
            if len(found) > limit:
                raise self.refused(f"its answer has more than {limit} bytes")

        if (self.length or 0) > limit:
            raise self.refused(f"its answer has {self.length} bytes, more than {limit}")
        try:
            with trio.fail_after(self._limits.document):
                await self.pour(add)
        except trio.TooSlowError as error:
            raise self._broken(self.request, error) from None
        return bytes(found)

    async def pour(self, write: Write) -> None:
        """Hand the body to `write`, chunk by chunk. It may be cut at any chunk: Passing."""
        self._begun = True
        if self.headers.get("content-encoding", "identity") != "identity":
            raise self.refused("it compressed its answer, which nobody asked for")
        pace = _Pace(self._limits)
        async with contextlib.aclosing(self._response.aiter_stream()) as chunks:
            while True:
                try:
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    pace.step(len(chunk))
                except (*_BREAKS, trio.TooSlowError) as error:
                    raise self._broken(self.request, error) from None
                await write(chunk)
                pace.waited()

    async def drain(self) -> None:
        """Read a short body that nobody wanted, so that the connection can be used again."""
        if self._begun or (self.length or 0) > _ERROR_BYTES or (self.length is None and self._has_body()):
            return
        try:
            await self.read(_ERROR_BYTES)
        except RegistryFailed:
            return  # then the connection is closed, and that is all

    def _has_body(self) -> bool:
        return self.request.method != "HEAD" and self.status not in (204, 304)

    async def error(self) -> Exception:
        """What an answer of no success is raised as."""
        wait = retry_after(self.headers.get("retry-after", "")) if self.status in _WAITING else None
        body = b""
        try:
            body = await self.read(_ERROR_BYTES)
        except RegistryFailed:
            body = b""  # what was wrong is in the status; the words are an addition
        request = self.request
        return failures.of_status(request.deed, request.subject, request.host, self.status, self.headers, body, wait)

    def refused(self, cause: str) -> RegistryFailed:
        return RegistryFailed(self.request.deed, self.request.subject, cause)


Broken = Callable[[Request, Exception], RegistryFailed]
_BREAKS = (
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.UnsupportedProtocol,
    OSError,
)


class Exchanges:
    """Pools of connections, one for each way of trusting, with bounds for each host and altogether."""

    def __init__(self, settings: endpoints.Settings, limits: Limits = LIMITS, resolver: Resolver = resolve) -> None:
        self._settings = settings
        self._limits = limits
        self._dialer = Dialer(resolver)
        self._pools: dict[Trust, httpcore2.AsyncConnectionPool] = {}
        self._trusts: dict[str, Trust] = {}
        self._altogether = trio.Semaphore(limits.altogether)
        self._hosts: dict[str, trio.Semaphore] = {}

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()

    @contextlib.asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        """The answer, after redirects."""
        url, headers, source = request.url, dict(request.headers), request.source
        if source is not None:
            await self._look(request, url, url, source)
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._once(request, url, headers) as answer:
                if answer.status not in _REDIRECTS or "location" not in answer.headers:
                    yield answer
                    return
                source = answer.reach if source is None else min(source, answer.reach)
                target = await self.follow(answer, source)
            if not same_origin(url, target):
                headers.pop("Authorization", None)
            url = target
        raise RegistryFailed(request.deed, request.subject, f"{request.host} redirects without end")

    async def follow(self, answer: Answer, source: Reach | None = None) -> str:
        """The URL of an answer's Location, if it may be followed."""
        request = answer.request
        if answer.status in _REDIRECTS and request.method not in ("GET", "HEAD"):
            raise answer.refused(f"{request.host} redirects a {request.method}, which nobody should follow")
        location = answer.headers.get("location", "")
        try:
            target = urljoin(answer.url, location)
        except ValueError:  # an address in brackets that is none
            raise _no_way(request, location, "it is no URL") from None
        await self._look(request, answer.url, target, answer.reach if source is None else source)
        return target

    async def _look(self, request: Request, before: str, target: str, source: Reach) -> None:
        """Raise unless a machine at `source` may send us from `before` to `target`."""
        parts = _split(target)
        if parts is None:
            raise _no_way(request, target, "it is no URL of http or https")
        if parts.username is not None or parts.password is not None:
            raise _no_way(request, target, "there is a user's name in it")
        if parts.scheme == "http" and not (request.insecure and urlsplit(before).scheme == "http"):
            raise _no_way(request, target, "it is plain http")
        if request.source is None and same_origin(target, request.url):
            return  # whom the user named
        try:
            await self._dialer.allow(parts.hostname or "", parts.port or _PORTS[parts.scheme], source)
        except RegistryFailed as error:
            raise _no_way(request, target, error.cause) from None

    @contextlib.asynccontextmanager
    async def _once(self, request: Request, url: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        parts = urlsplit(url)
        if not same_origin(url, request.url):
            request = request._replace(host=parts.netloc)  # whom an error is about
        sent = {"Host": parts.netloc, "User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        seconds = {"connect": self._limits.connect, "read": self._limits.silence, "write": self._limits.silence}
        async with self._host(parts.netloc), self._altogether, contextlib.AsyncExitStack() as stack:
            # A head that trickles has no other bound; a body that is on its way out moves the deadline.
            with trio.move_on_after(self._limits.document) as clock:
                stream = self._pool(parts.netloc).stream(
                    request.method,
                    url,
                    headers=list(sent.items()),
                    content=self._content(request.body, clock),
                    extensions={"timeout": seconds},
                )
                try:
                    response = await stack.enter_async_context(stream)
                except _BREAKS as error:
                    raise self._broken(request, error) from None
            if clock.cancelled_caught:
                raise self._broken(request, trio.TooSlowError())
            answer = Answer(request, url, response, self._limits, self._broken)
            yield answer
            await answer.drain()

    def _content(self, body: Body, clock: trio.CancelScope) -> bytes | AsyncIterator[bytes] | None:
        if isinstance(body, bytes):
            return body or None

        async def timed() -> AsyncIterator[bytes]:
            async with contextlib.aclosing(body()) as chunks:
                async for chunk in chunks:
                    yield chunk
                    clock.deadline = trio.current_time() + self._limits.document

        return timed()

    def _host(self, netloc: str) -> trio.Semaphore:
        if netloc not in self._hosts:
            if len(self._hosts) > 1000:
                self._hosts.clear()
                self._trusts.clear()
            self._hosts[netloc] = trio.Semaphore(self._limits.per_host)
        return self._hosts[netloc]

    def _pool(self, netloc: str) -> httpcore2.AsyncConnectionPool:
        """The pool of those that are trusted as this host is: a client's certificate is for its own host's eyes."""
        if netloc not in self._trusts:
            self._trusts[netloc] = endpoints.trust_of(netloc, self._settings)
        trust = self._trusts[netloc]
        if trust not in self._pools:
            self._pools[trust] = httpcore2.AsyncConnectionPool(
                ssl_context=endpoints.tls_context(trust),
                max_connections=2 * self._limits.altogether,
                max_keepalive_connections=self._limits.per_host * 2,
                keepalive_expiry=self._limits.idle_seconds,
                network_backend=self._dialer,
            )
        return self._pools[trust]

    def _broken(self, request: Request, error: Exception) -> RegistryFailed:
        return failures.of_exchange(request.deed, request.subject, request.host, self._settings.certificates, error)


class _Pace:
    """Whether a body comes fast enough. Time that we need ourselves to take it does not count."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._begun = trio.current_time()
        self._paused = 0.0
        self._bytes = 0

    def step(self, count: int) -> None:
        self._bytes += count
        self._paused = trio.current_time()
        if self._paused - self._begun < self._limits.window:
            return
        if self._bytes < self._limits.least:
            raise trio.TooSlowError
        self._begun, self._bytes = self._paused, 0

    def waited(self) -> None:
        self._begun += trio.current_time() - self._paused


def _split(url: str) -> SplitResult | None:
    """The parts of a URL that can be asked, or None."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError:
        return None
    clean = url.isascii() and url.isprintable() and " " not in url and len(url) <= _LONGEST_URL
    return parts if good and clean else None


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs are of one scheme, host and port."""
    first, second = _split(one), _split(other)
    return first is not None and second is not None and _origin(first) == _origin(second)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _no_way(request: Request, target: str, why: str) -> RegistryFailed:
    where = shown(target.partition("?")[0])
    return RegistryFailed(request.deed, request.subject, f"{request.host} sends us to {where}: {why}")


def _reach_of(response: httpcore2.Response) -> Reach:
    stream = response.extensions["network_stream"]
    try:
        return addresses.reach(str(stream.get_extra_info("server_addr")[0]))
    except OSError:  # it has gone already: then it may lead to what is public
        return Reach.PUBLIC


def _text(value: bytes) -> str:
    return value.decode("latin-1")
