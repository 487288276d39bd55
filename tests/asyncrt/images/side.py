"""One machine of a test: a client, a store, its fetches; and what it pulls and pushes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asyncrt.images.blobs import Blobs
from asyncrt.images.fetching import Fetches, open_fetches
from asyncrt.images.image import Image
from asyncrt.images.pull import pull
from asyncrt.images.push import push
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.platform import parse as platform
from asyncrt.model.reference import Reference
from asyncrt.registry.client import Client
from tests.asyncrt.registry.peer import Registry
from tests.asyncrt.registry.server import Server, client_of

_MIB = 1 << 20


class Side:
    """One machine: a client, a store, its fetches."""

    def __init__(self, client: Client, blobs: Blobs, fetches: Fetches, host: str) -> None:
        self.client, self.blobs, self.fetches, self.host = client, blobs, fetches, host

    async def pull(self, path: str, tag: str = "v1", wanted: str = "linux/amd64", **more: object) -> Image:
        reference = Reference(self.host, path, "" if ":" in tag else tag, tag if ":" in tag else "")
        return await pull(self.client, self.fetches, self.blobs, reference, platform(wanted), **more)  # type: ignore[arg-type]

    async def push(self, target: Descriptor, path: str, tag: str = "v1", **more: object) -> None:
        await push(self.client, self.blobs, target, Reference(self.host, path, tag), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def side(registry: Registry | Server, blobs: Blobs) -> AsyncIterator[Side]:
    server = Server(int(registry.host.rpartition(":")[2]), "http")
    async with client_of(server) as client, open_fetches(blobs) as fetches:
        yield Side(client, blobs, fetches, registry.host)


async def content(blobs: Blobs, descriptor: Descriptor) -> bytes:
    reader = await blobs.open(descriptor)
    found = bytearray()
    while chunk := await reader.read_at(len(found), _MIB):
        found += chunk
    await reader.close()
    return bytes(found)
