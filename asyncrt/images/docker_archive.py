"""Docker's archive in the form that every docker reads: plain tars of layers, a config, manifest.json.

    save_docker([Saved(...)], content, write)

`saving.save` writes docker's newer form, in which layers are as the registry has them: docker before 23 inflates no
zstd in it. Here each layer is inflated, and checked against its diffID by the way. A tar wants a file's size before
the file, so a compressed layer is inflated twice; isal does a gigabyte in a second, and no second copy lies about.

Source: docker's image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format". Blocks: call it in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from asyncrt.content.store import Content
from asyncrt.errors import BadImage
from asyncrt.images import config as configs
from asyncrt.images import documents, tarball
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Manifest
from asyncrt.images.loading import DOCKER_FILE
from asyncrt.images.saving import Saved
from asyncrt.images.tarball import Write
from asyncrt.layers.inflate import Inflated
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import Digest


def save_docker(images: Iterable[Saved], content: Content, write: Write) -> None:
    """The archive, to `write`. BadImage for an index, which docker's form cannot hold; NoSuchObject for a lost blob."""
    listed: list[dict[str, Any]] = []
    written: set[str] = set()
    for image in images:
        document = documents.read(content.read(image.shown, MAX_BYTES), image.shown.media_type, image.shown.digest)
        if not isinstance(document, Manifest):
            raise BadImage("save", image.shown.digest, "docker's archive holds manifests, and this is an index")
        data = content.read(document.config, MAX_BYTES)
        config = configs.read(data, image.shown.digest)
        configs.fits(document, config, image.shown.digest)
        documents.layers(document, image.shown.digest)
        name = f"{document.config.parsed.encoded}.json"
        tars = [f"{Digest.parse(diff_id).encoded}.tar" for diff_id in config.diff_ids]
        for tar, layer, diff_id in zip(tars, document.layers, config.diff_ids, strict=True):
            if tar not in written:
                _layer(write, tar, layer, Digest.parse(diff_id), content)
                written.add(tar)
        if name not in written:
            tarball.add(write, name, len(data), iter([data]))
            written.add(name)
        tags = [one._replace(digest="").familiar() for one in image.names if one.tag]
        listed.append({"Config": name, "RepoTags": tags or None, "Layers": tars})
    data = msgspec.json.encode(listed)
    tarball.add(write, DOCKER_FILE, len(data), iter([data]))
    write(tarball.END)


def _layer(write: Write, name: str, layer: Descriptor, diff_id: Digest, content: Content) -> None:
    size = sum(map(len, _inflated(layer, diff_id, content)))
    tarball.add(write, name, size, _inflated(layer, diff_id, content))


def _inflated(layer: Descriptor, diff_id: Digest, content: Content) -> Iterator[bytes]:
    """The layer's tar. BadImage at its end if it is not the one of the diffID."""
    blob = content.open(layer.parsed)
    try:
        with Inflated(blob, hash_stored=False) as inflated:
            yield from inflated.chunks()
            if inflated.diff_id != diff_id:
                raise BadImage("check layer", layer.digest, f"its tar has the diffID {inflated.diff_id}, not {diff_id}")
    finally:
        os.close(blob)
