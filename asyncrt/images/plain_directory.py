"""skopeo's `dir:`: an image as plain files side by side, read into the store and written from it.

    DIR/version              "Directory Transport Version: 1.1"
    DIR/manifest.json        the manifest, or an index
    DIR/HEX.manifest.json    a manifest of that index
    DIR/HEX                  config and layers

It may come from anybody: files are opened beneath the directory, must be regular, and are what their digests say.
Source: containers-transports(5), and what skopeo writes. Methods block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from asyncrt.content.store import Content
from asyncrt.errors import BadImage, StorageFailed
from asyncrt.images import documents
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Index
from asyncrt.images.layout import opened, replace, small, take_blob
from asyncrt.images.saving import chunks_of_blob, gather
from asyncrt.model.descriptor import Descriptor, describe

_VERSION, _MANIFEST = "version", "manifest.json"
_SAYS = b"Directory Transport Version: 1.1\n"
_DEEPEST = 3


def load_directory(directory: Path, content: Content) -> Descriptor:
    """What the directory holds, with all its blobs in the store; of an index what is not there is left out.

    BadImage or StorageFailed.
    """
    subject = str(directory)
    with opened(directory) as root:
        data = small(root, _MANIFEST, subject)
        document = documents.read(data, "", subject)
        target = describe(data, document.media_type)
        content.put(data, target.parsed)
        _parts(root, target, content, subject, 0)
        return target


def _parts(root: int, target: Descriptor, content: Content, subject: str, depth: int) -> None:
    document = documents.read(content.read(target, MAX_BYTES), target.media_type, f"{target.digest} of {subject}")
    if not isinstance(document, Index):
        for part in (document.config, *document.layers):
            take_blob(root, part, content, subject, needed=True, path=part.parsed.encoded)
    elif depth == _DEEPEST:
        raise BadImage("read directory", subject, f"its indexes are nested more than {_DEEPEST} deep")
    else:
        for entry in document.manifests:
            if take_blob(root, entry, content, subject, needed=False, path=f"{entry.parsed.encoded}.manifest.json"):
                _parts(root, entry, content, subject, depth + 1)


def save_directory(target: Descriptor, content: Content, directory: Path) -> None:
    """Write it; the manifest comes last. BadImage if there is something else in the directory already."""
    subject = str(directory)
    blobs: dict[str, Descriptor] = {}
    gather(target, content, blobs)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if set(os.listdir(directory)) and not (directory / _VERSION).exists():
            raise BadImage("write directory", subject, "there is something else", "name a directory of its own")
        replace(directory / _VERSION, iter([_SAYS]))
        for digest, blob in blobs.items():
            if digest != target.digest:
                replace(directory / _name(blob), chunks_of_blob(blob, content))
        replace(directory / _MANIFEST, chunks_of_blob(target, content))
        _forget_others(directory, {_VERSION, _MANIFEST, *(_name(blob) for blob in blobs.values())})
    except OSError as error:
        raise StorageFailed("write directory", subject, (error.strerror or str(error)).lower()) from error


def _name(blob: Descriptor) -> str:
    ending = ".manifest.json" if blob.media_type in documents.KINDS else ""
    return blob.parsed.encoded + ending


def _forget_others(directory: Path, kept: set[str]) -> None:
    """What an image that was here before had, and this one has not."""
    for name in _hex_names(directory):
        if name not in kept:
            (directory / name).unlink()


def _hex_names(directory: Path) -> Iterator[str]:
    for name in os.listdir(directory):
        stem = name.removesuffix(".manifest.json")
        if len(stem) in (64, 128) and not set(stem) - set("0123456789abcdef"):
            yield name
