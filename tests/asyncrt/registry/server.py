"""A registry of the tests' own making, on trio and loopback: it does what it is told, also what no registry should.

    async with serving(handler) as server:      handler: async (Call) -> None, once a request
        server.url, server.calls

A handler answers with call.answer(status, headers, body), or sends bytes of its own and breaks off.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import h11
import trio

from asyncrt.registry.attempts import Policy
from asyncrt.registry.client import Client, open_client
from asyncrt.registry.credentials import Credentials
from asyncrt.registry.dialing import Resolver, resolve
from asyncrt.registry.endpoints import HostSettings, Settings
from asyncrt.registry.exchange import Limits

QUICK = Policy(attempts=3, base=0.01, longest=0.05, longest_asked=1.0)
SHORT = Limits(connect=2.0, silence=0.5, document=1.0, window=0.4, least=64 << 10)

# For a peer that is meant to work, on a machine that may be busy.
PATIENT = SHORT._replace(connect=10.0, silence=20.0, document=60.0, window=30.0)


class Seen(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Call:
    """One request, and the ways to answer it."""

    def __init__(self, seen: Seen, stream: trio.abc.Stream, wire: h11.Connection) -> None:
        self.seen = seen
        self.stream = stream
        self.wire = wire

    async def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        await self.head(status, {"Content-Length": str(len(body))} | (headers or {}))
        if body and self.seen.method != "HEAD":
            await self.send(h11.Data(body))
        await self.send(h11.EndOfMessage())

    async def head(self, status: int, headers: dict[str, str] | None = None) -> None:
        await self.send(h11.Response(status_code=status, headers=list((headers or {}).items())))

    async def send(self, event: h11.Event) -> None:
        await self.stream.send_all(self.wire.send(event) or b"")

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def cut(self) -> None:
        await self.stream.aclose()


Handler = Callable[[Call], Awaitable[None]]


class Server:
    def __init__(self, port: int, scheme: str) -> None:
        self.host = f"127.0.0.1:{port}"
        self.url = f"{scheme}://{self.host}"
        self.calls: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0

    def asked(self, method: str, part: str) -> list[Seen]:
        return [seen for seen in self.calls if seen.method == method and part in seen.target]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    server = Server(listeners[0].socket.getsockname()[1], "https" if tls else "http")

    async def connection(stream: trio.abc.Stream) -> None:
        server.connections += 1
        server.open += 1
        server.most_open = max(server.most_open, server.open)
        try:
            await _talk(trio.SSLStream(stream, tls, server_side=True, https_compatible=True) if tls else stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            await trio.lowlevel.checkpoint()  # the client went, or the handler closed
        finally:
            server.open -= 1
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _talk(stream: trio.abc.Stream) -> None:
        wire = h11.Connection(h11.SERVER)
        while (seen := await _request(wire, stream)) is not None:
            server.calls.append(seen)
            await handler(Call(seen, stream, wire))
            if wire.our_state is not h11.DONE or wire.their_state is not h11.DONE:
                return
            wire.start_next_cycle()

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, connection, listeners)
        try:
            yield server
        except Exception as error:  # noqa: BLE001 - raised below: the nursery would make a group of it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _request(wire: h11.Connection, stream: trio.abc.Stream) -> Seen | None:
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            headers = {name.decode().lower(): value.decode() for name, value in request.headers}
            return Seen(request.method.decode(), request.target.decode(), headers, bytes(body))
        else:
            return None


@asynccontextmanager
async def client_of(
    *servers: Server,
    credentials: Credentials | None = None,
    mirrors: dict[str, tuple[str, ...]] | None = None,
    policy: Policy = QUICK,
    limits: Limits = PATIENT,
    resolver: Resolver = resolve,
    certificates: str = "/nonexistent",
) -> AsyncIterator[Client]:
    """A client to whom these servers' plain http is allowed, and that loses no time."""
    hosts = {server.host: HostSettings(insecure=server.url.startswith("http:")) for server in servers}
    for host, urls in (mirrors or {}).items():
        hosts[host] = hosts.get(host, HostSettings())._replace(mirrors=urls)
    settings = Settings(hosts, certificates)
    nobody = credentials or Credentials(environment={"DOCKER_CONFIG": "/nonexistent"})
    async with open_client(settings, nobody, policy, limits, resolver) as client:
        yield client
