"""An image: the documents of one platform, with every blob in the store."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from asyncrt.errors import BadImage, NoSuchObject
from asyncrt.images import config as configs
from asyncrt.images import documents, selection
from asyncrt.images.blobs import check_size
from asyncrt.images.config import Config
from asyncrt.images.documents import Manifest
from asyncrt.model import platform as platforms
from asyncrt.model.descriptor import Descriptor, Platform

_DEEPEST = 3  # an index in an index is allowed, and nobody makes more


class Image(NamedTuple):
    """What a name stands for, resolved. `target` is what the name names: the manifest itself, or an index above it."""

    target: Descriptor
    descriptor: Descriptor
    manifest: Manifest
    config: Config

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The lowest first, as the config's diff_ids are."""
        return self.manifest.layers


class Documents(Protocol):
    """Where manifests and configs come from: a registry, the store, files."""

    async def get(self, descriptor: Descriptor) -> bytes:
        """Its bytes, checked against the descriptor and kept in the store."""
        ...


async def choose(
    source: Documents, target: Descriptor, data: bytes, wanted: Platform, subject: str, depth: int = 0
) -> tuple[Descriptor, Manifest]:
    """The manifest of the wanted platform below `target`, whose bytes are `data`."""
    document = documents.read(data, target.media_type, subject)
    if isinstance(document, Manifest):
        return target, document
    if depth == _DEEPEST:
        raise BadImage("choose image", subject, f"its indexes are nested more than {_DEEPEST} deep")
    found: list[tuple[Manifest, tuple[Descriptor, Manifest]]] = []
    for entry in selection.candidates(document, wanted, subject):
        check_size(entry, subject)
        chosen = await choose(source, entry, await source.get(entry), wanted, subject, depth + 1)
        found.append((chosen[1], chosen))
    return selection.prefer(found)


def checked(
    target: Descriptor, descriptor: Descriptor, manifest: Manifest, data: bytes, wanted: Platform, subject: str
) -> Image:
    """The image of a manifest and its config's bytes; BadImage or NoSuchObject for what cannot be run here."""
    config = configs.read(data, subject)
    configs.fits(manifest, config, subject)
    if not platforms.choose(wanted, [(config.platform, None)]):
        own, asked = platforms.written(config.platform), platforms.written(wanted)
        raise NoSuchObject(
            "choose image", subject, f"it is for {own}, not {asked}", f"--platform {own}, if that can run"
        )
    return Image(target, descriptor, manifest, config)
