"""Connections for the pool: to hosts that the user named, and to addresses of others that were looked at before.

Between looking at a name's addresses and connecting to it the name may change (DNS rebinding). So what `allow` has
looked at is kept for a while, and a connection to that name goes to one of those addresses and no other.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import httpcore2
import trio

from asyncrt.errors import RegistryFailed
from asyncrt.registry import addresses
from asyncrt.registry.addresses import Reach

if TYPE_CHECKING:
    from httpcore2 import SOCKET_OPTION

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_KEPT_SECONDS = 60.0
_RESOLVE_SECONDS = 10.0
_MOST_KEPT = 1000
_READ_BYTES = 256 << 10


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, in the system's order of preference; RegistryFailed if there are none."""
    try:
        with trio.fail_after(_RESOLVE_SECONDS):
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, trio.TooSlowError) as error:
        cause = "its name was not found in time" if isinstance(error, trio.TooSlowError) else "its name is not known"
        raise RegistryFailed("find host", host, cause) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Stream(httpcore2.AsyncNetworkStream):
    """One of httpcore2's streams, closed also when a TLS handshake is cancelled: theirs then leaks."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # The caller takes what it gets, and a read of 256 KiB passes through as many layers as one of its 64.
        return await self._inner.read(max(max_bytes, _READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Dialer(httpcore2.AsyncNetworkBackend):
    """A network backend of httpcore2's, on trio."""

    def __init__(self, resolver: Resolver = resolve) -> None:
        self._trio = httpcore2.TrioBackend()
        self._resolve = resolver
        self._allowed: dict[tuple[str, int], tuple[float, list[str]]] = {}

    async def allow(self, host: str, port: int, source: Reach) -> None:
        """Look whether a machine at `source` may send us to `host`; RegistryFailed if not."""
        found = await self._resolve(host, port)
        good = [address for address in found if addresses.may_lead(source, addresses.reach(address))]
        if not good:
            cause = f"{found[0] if found else 'nowhere'} is not for others to send us to"
            raise RegistryFailed("follow redirect to", host, cause)
        if len(self._allowed) >= _MOST_KEPT:
            self._allowed.clear()
        self._allowed[host, port] = (trio.current_time() + _KEPT_SECONDS, good)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        inner = await self._connected(host, port, timeout, local_address, socket_options or ())
        return Stream(inner)

    async def _connected(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        options: Iterable[SOCKET_OPTION],
    ) -> httpcore2.AsyncNetworkStream:
        until, allowed = self._allowed.get((host, port), (0.0, []))
        if until < trio.current_time():
            return await self._trio.connect_tcp(host, port, timeout, local_address, options)
        share = None if timeout is None else timeout / len(allowed)
        for address in allowed[:-1]:
            try:
                return await self._trio.connect_tcp(address, port, share, local_address, options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._trio.connect_tcp(allowed[-1], port, share, local_address, options)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
