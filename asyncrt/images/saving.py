"""Images of the store to an archive or a layout that others read.

    save(images, content, write)                    a tar: OCI layout and docker's manifest.json in one
    save_layout(images, content, directory)         an OCI layout as a directory; images that are there stay

The tar is of the form that docker has written since 25: `blobs/` with `index.json` for who reads OCI,
`manifest.json` and `repositories` for docker of any age, podman and skopeo, which name the same blobs. So nothing is
in it twice, and layers are stored as they are (docker inflates gzip; of zstd it needs 23 or newer). Methods block:
call them in a worker thread.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from asyncrt.content.store import Content
from asyncrt.errors import BadImage, NoSuchObject, StorageFailed
from asyncrt.images import documents, tarball
from asyncrt.images import layout as layouts
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Index, Manifest
from asyncrt.images.loading import DOCKER_FILE, FULL_NAME, INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, REF_NAME
from asyncrt.images.tarball import Write
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.reference import Reference

_CHUNK = 1 << 20
_DEEPEST = 3


class Saved(NamedTuple):
    """An image to be saved: its manifest or index, its names, and the manifest that docker's part shows.

    `label` is what a layout calls it besides: a tag that is no reference of its own.
    """

    target: Descriptor
    names: tuple[Reference, ...]
    shown: Descriptor
    label: str = ""


def save(images: Iterable[Saved], content: Content, write: Write, docker: bool = True) -> None:
    """The archive, to `write`. NoSuchObject names a blob that is not here; nothing is written then."""
    images = list(images)
    blobs: dict[str, Descriptor] = {}
    for image in images:
        gather(image.target, content, blobs)
    described = _docker_files(images, content) if docker else {}
    for name, value in {LAYOUT_FILE: {"imageLayoutVersion": LAYOUT_VERSION}, **described}.items():
        data = msgspec.json.encode(value)
        tarball.add(write, name, len(data), iter([data]))
    data = documents.encode(Index(2, tuple(_entries(images)), media_types.OCI_INDEX))
    tarball.add(write, INDEX_FILE, len(data), iter([data]))
    for name in ("blobs", *sorted({posixpath.dirname(blob_path(digest)) for digest in blobs})):
        tarball.directory(write, name)
    for blob in blobs.values():
        tarball.add(write, blob_path(blob.digest), blob.size, chunks_of_blob(blob, content))
    write(tarball.END)


def save_layout(images: Iterable[Saved], content: Content, directory: Path) -> None:
    """The layout, in a directory that is made or added to. Blobs come first, the index last and at once."""
    images = list(images)
    blobs: dict[str, Descriptor] = {}
    for image in images:
        gather(image.target, content, blobs)
    with layouts.writing(directory) as target:
        for blob in blobs.values():
            target.add(blob, chunks_of_blob(blob, content))
        target.list(list(_entries(images)))


def blob_path(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"


def gather(target: Descriptor, content: Content, blobs: dict[str, Descriptor], depth: int = 0) -> bool:
    """Add `target` and all below it. Of an index what is not here is left out; False if there is nothing of it."""
    if content.size(target.parsed) != target.size:
        if depth:
            return False
        raise NoSuchObject("save", target.digest, "it is not in the content store", "pull it again")
    blobs[target.digest] = target
    document = documents.read(content.read(target, MAX_BYTES), target.media_type, target.digest)
    if isinstance(document, Index):
        if depth == _DEEPEST:
            raise BadImage("save", target.digest, f"its indexes are nested more than {_DEEPEST} deep")
        here = [gather(entry, content, blobs, depth + 1) for entry in document.manifests]
        if not any(here):
            raise NoSuchObject("save", target.digest, "none of its platforms is here", "pull it again")
        return True
    for part in (document.config, *document.layers):
        if content.size(part.parsed) != part.size:
            raise NoSuchObject("save", target.digest, f"its blob {part.digest} is not here", "pull it again")
        blobs[part.digest] = part
    return True


def _entries(images: list[Saved]) -> Iterator[Descriptor]:
    for image in images:
        plain = Descriptor(image.target.media_type, image.target.digest, image.target.size)
        if image.label:
            yield msgspec.structs.replace(plain, annotations={REF_NAME: image.label})
        elif not image.names:
            yield plain
        for name in image.names:
            notes = {FULL_NAME: str(name), REF_NAME: name.tag or name.digest}
            yield msgspec.structs.replace(plain, annotations=notes)


def _docker_files(images: list[Saved], content: Content) -> dict[str, Any]:
    listed: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in images:
        document = documents.read(content.read(image.shown, MAX_BYTES), image.shown.media_type, image.shown.digest)
        if not isinstance(document, Manifest):
            raise BadImage("save", image.shown.digest, "docker's archive shows manifests, and this is an index")
        names = [name for name in image.names if name.tag]
        listed.append(
            {
                "Config": blob_path(document.config.digest),
                "RepoTags": [name._replace(digest="").familiar() for name in names],
                "Layers": [blob_path(layer.digest) for layer in document.layers],
            }
        )
        top = (document.layers or (document.config,))[-1].digest.partition(":")[2]
        for name in names:
            familiar = name._replace(digest="").familiar().removesuffix(f":{name.tag}")
            repositories.setdefault(familiar, {})[name.tag] = top
    return {DOCKER_FILE: listed, "repositories": repositories}


def chunks_of_blob(blob: Descriptor, content: Content) -> Iterator[bytes]:
    """The bytes of a blob, exactly as many as its descriptor says."""
    file = content.open(blob.parsed)
    try:
        place = 0
        while place < blob.size:
            chunk = os.pread(file, min(_CHUNK, blob.size - place), place)
            if not chunk:
                raise StorageFailed("read blob", blob.digest, f"it ends after {place} of {blob.size} bytes")
            yield chunk
            place += len(chunk)
    except OSError as error:
        raise StorageFailed("read blob", blob.digest, (error.strerror or str(error)).lower()) from error
    finally:
        os.close(file)
