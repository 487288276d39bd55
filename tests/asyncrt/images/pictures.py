"""Images for tests: made of bytes, in a store, with as many layers and platforms as a test wants."""

import hashlib
import json
import random
from typing import Protocol

from asyncrt.content.store import Content
from asyncrt.images import documents
from asyncrt.images.documents import Index, Manifest
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, Platform, describe

LAYER = media_types.OCI_LAYER


class Keeper(Protocol):
    def add(self, data: bytes, media_type: str) -> Descriptor: ...


class Stored:
    """A Content that pictures can be put into."""

    def __init__(self, content: Content) -> None:
        self.content = content

    def add(self, data: bytes, media_type: str) -> Descriptor:
        described = describe(data, media_type)
        self.content.put(data, described.parsed)
        return described


def noise(size: int, seed: object) -> bytes:
    return random.Random(str(seed)).randbytes(size)


def config(layers: list[bytes], architecture: str = "amd64", variant: str = "") -> bytes:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    document = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    document |= {"variant": variant} if variant else {}
    return json.dumps(document).encode()


def image(
    keeper: Keeper, layers: list[bytes], architecture: str = "amd64", layer_type: str = LAYER, variant: str = ""
) -> Descriptor:
    """A manifest of these layers, with everything that it names, in the store."""
    described = keeper.add(config(layers, architecture, variant), media_types.OCI_CONFIG)
    parts = tuple(keeper.add(layer, layer_type) for layer in layers)
    manifest = Manifest(2, described, parts, media_types.OCI_MANIFEST)
    return keeper.add(documents.encode(manifest), media_types.OCI_MANIFEST)


def index(keeper: Keeper, *entries: tuple[Descriptor, str, str]) -> Descriptor:
    """An index of (manifest, architecture, variant)."""
    listed = tuple(
        Descriptor(one.media_type, one.digest, one.size, platform=Platform(architecture, "linux", variant=variant))
        for one, architecture, variant in entries
    )
    return keeper.add(documents.encode(Index(2, listed, media_types.OCI_INDEX)), media_types.OCI_INDEX)
