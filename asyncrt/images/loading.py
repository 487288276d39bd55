"""Archives of images into the store: `docker save`'s and the OCI layout's tar, from a file or a pipe, in one pass.

    loaded = load(chunks, content, "images.tar")        an iterator of the tar's bytes
    [Loaded(("x.y/app:1",), descriptor of the manifest or index)]

Every file of the tar becomes a blob while it streams by; the JSON that comes last or first says afterwards which of
them are images. What nothing names is collected like any other blob. No name in an archive is ever a path on this
machine.

An archive with `oci-layout` is read by its index.json, any other by manifest.json (docker has written both since
25). Names are what the archive says, for the caller to take or leave. Sources: image-spec v1.1.1, image-layout.md;
docker's image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format". Methods block: call them in a worker
thread.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from asyncrt.content.store import Content
from asyncrt.errors import BadImage, shown
from asyncrt.images import config as configs
from asyncrt.images import documents
from asyncrt.images.decoding import MAX_BYTES, decode
from asyncrt.images.documents import Index, Manifest
from asyncrt.layers.entry import DIRECTORY, FILE, HARDLINK, SYMLINK
from asyncrt.layers.feed import Feed
from asyncrt.layers.inflate import form_of
from asyncrt.layers.limits import Limits
from asyncrt.layers.reader import Reader
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor, describe
from asyncrt.model.digest import Digest, is_digest

LAYOUT_FILE, INDEX_FILE, DOCKER_FILE = "oci-layout", "index.json", "manifest.json"
LAYOUT_VERSION = "1.0.0"
# Where an entry of index.json has its name: the spec's annotation (a tag or a whole name), containerd's (a whole name).
REF_NAME = "org.opencontainers.image.ref.name"
FULL_NAME = "io.containerd.image.name"

_LIMITS = Limits(entries=100_000, depth=16, path=1024)
_CHUNK = 1 << 20
_DEEPEST = 3
_numbers = itertools.count(1)
_COMPRESSED = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}


class Loaded(NamedTuple):
    """One image of an archive: what it is called there, and its manifest or index, now in the store."""

    names: tuple[str, ...]
    target: Descriptor


class Layout(msgspec.Struct, rename="camel"):
    """The file oci-layout."""

    image_layout_version: str


class _DockerImage(msgspec.Struct, rename="pascal"):
    """An entry of manifest.json."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def chunks_of(file: int) -> Iterator[bytes]:
    """The bytes of an open file or pipe; inflated, if they are gzip's (`docker save | gzip`)."""
    chunk = os.read(file, _CHUNK)
    if not chunk.startswith(b"\x1f\x8b"):
        while chunk:
            yield chunk
            chunk = os.read(file, _CHUNK)
        return
    inflater = zlib.decompressobj(31)
    while chunk:
        try:
            if data := inflater.decompress(chunk, _CHUNK):
                yield data
        except zlib.error as error:
            raise BadImage("read archive", "", f"its gzip is damaged: {error}") from None
        chunk = inflater.unconsumed_tail or inflater.unused_data or os.read(file, _CHUNK)
        if inflater.eof and chunk:
            inflater = zlib.decompressobj(31)
    if not inflater.eof:
        raise BadImage(
            "read archive", "", "its gzip ends in the middle", "it was cut short where it was made or stored"
        )


def load(
    chunks: Iterator[bytes], content: Content, subject: str, form: Literal["", "oci", "docker"] = ""
) -> list[Loaded]:
    """The images of an archive, with all their blobs in the store. BadImage or StorageFailed; what came is kept.

    `form`: which of the two kinds of archive it is to be read as, where it is both.
    """
    try:
        files = _Files(content, subject)
        files.take_all(chunks)
        by_layout = form == "oci" or (not form and LAYOUT_FILE in files.blobs)
        return _by_layout(files) if by_layout else _by_docker(files)
    except BadImage as error:
        if error.subject:
            raise
        raise BadImage("read archive", subject, error.cause, error.hint) from None  # of the tar's reader


class _Files:
    """The archive's files by their names, as blobs."""

    def __init__(self, content: Content, subject: str) -> None:
        self.content = content
        self.subject = subject
        self.blobs: dict[str, Descriptor] = {}
        self._links: dict[str, str] = {}

    def take_all(self, chunks: Iterator[bytes]) -> None:
        feed = Feed(chunks)
        reader = Reader(feed, _LIMITS)
        for entry in reader:
            name = entry.name.decode(errors="replace")
            if entry.kind == FILE and entry.sparse is None:
                self.blobs[name] = self._blob(reader, name, entry.stored)
            elif entry.kind in (SYMLINK, HARDLINK):
                target = entry.link.decode(errors="replace")
                beside = posixpath.dirname(name) if entry.kind == SYMLINK else ""
                self._links[name] = posixpath.normpath(posixpath.join(beside, target))
            elif entry.kind != DIRECTORY:
                raise self.refused(f"{shown(name)!r} is no file")
        feed.drain()  # gzip's checksum comes last
        if not reader.entries:
            raise self.refused("it is empty")

    def _blob(self, reader: Reader, name: str, size: int) -> Descriptor:
        with self.content.ingest(f"load {os.getpid()}.{next(_numbers)} {name}", _said_by(name)) as ingest:
            try:
                for view in reader.content():
                    ingest.write(view)
                digest = ingest.commit(size)
            except BaseException:
                ingest.drop()  # of a stream there is no second try
                raise
        return Descriptor("", str(digest), size)

    def find(self, name: str) -> Descriptor:
        """The blob of a name, through links within the archive."""
        path = posixpath.normpath(name)
        for _ in range(8):
            if path in self.blobs:
                return self.blobs[path]
            if path not in self._links:
                break
            path = self._links[path]
        raise self.refused(f"{shown(name)!r} is not in it")

    def json(self, name: str) -> bytes:
        return self.content.read(self.find(name), MAX_BYTES)

    def refused(self, cause: str, hint: str = "") -> BadImage:
        return BadImage("read archive", self.subject, cause, hint)


def _said_by(name: str) -> Digest | None:
    """The digest that a blob's name is."""
    parts = name.split("/")
    text = ":".join(parts[1:])
    return Digest.parse(text) if parts[0] == "blobs" and is_digest(text) else None


def _by_layout(files: _Files) -> list[Loaded]:
    check_layout(files.json(LAYOUT_FILE), files.subject)
    return images_of(files.json(INDEX_FILE), files.content, files.subject)


def check_layout(data: bytes, subject: str) -> None:
    """BadImage for a layout of another version than there is."""
    version = decode(data, Layout, "layout", subject).image_layout_version
    if version != LAYOUT_VERSION:
        raise BadImage("read layout", subject, f"its version is {shown(version)!r}, not {LAYOUT_VERSION}")


def images_of(data: bytes, content: Content, subject: str) -> list[Loaded]:
    """The images of an index.json, whose blobs are in the store."""
    index = documents.read(data, media_types.OCI_INDEX, subject)
    assert isinstance(index, Index)
    found = []
    for entry in index.manifests:
        if not complete(entry, content, subject):
            raise BadImage("read layout", subject, f"the blob of {entry.digest} is not in it")
        found.append(Loaded(_names(entry), msgspec.structs.replace(entry, annotations={}, platform=None)))
    return found


def complete(target: Descriptor, content: Content, subject: str, depth: int = 0) -> bool:
    """Whether all that `target` names is in the store. Of an index one platform is enough: nobody has to keep all."""
    if target.media_type not in media_types.INDEXES | media_types.MANIFESTS:
        return content.size(target.parsed) == target.size
    if content.size(target.parsed) != target.size:
        return False
    document = documents.read(content.read(target, MAX_BYTES), target.media_type, f"{target.digest} of {subject}")
    if isinstance(document, Index):
        return depth < _DEEPEST and any(complete(one, content, subject, depth + 1) for one in document.manifests)
    for part in (document.config, *document.layers):
        if content.size(part.parsed) != part.size:
            if depth:
                return False  # of a platform that nobody wanted to have
            raise BadImage("read layout", subject, f"the blob {part.digest} of {target.digest} is not in it")
    return True


def name_of(entry: Descriptor) -> str:
    """What an entry of index.json is called, "" if nothing.

    Tools that copy an entry to another tag copy containerd's annotation with it: then the spec's is the name.
    """
    full, ref = entry.annotations.get(FULL_NAME, ""), entry.annotations.get(REF_NAME, "")
    return full if full and full.endswith(ref) else ref


def _names(entry: Descriptor) -> tuple[str, ...]:
    name = name_of(entry)
    return (name,) if name else ()


def _by_docker(files: _Files) -> list[Loaded]:
    if DOCKER_FILE not in files.blobs:
        what = "of docker before 1.10" if "repositories" in files.blobs else "of images"
        raise files.refused(f"it is no archive {what} that is read here: no {DOCKER_FILE}, no {LAYOUT_FILE}")
    images = decode(files.json(DOCKER_FILE), tuple[_DockerImage, ...], "archive", files.subject)
    return [Loaded(image.repo_tags or (), _manifest(files, image)) for image in images]


def _manifest(files: _Files, image: _DockerImage) -> Descriptor:
    """The OCI manifest of one of docker's images, made and stored: the archive has none."""
    data = files.json(image.config)
    config = configs.read(data, f"{shown(image.config)} of {files.subject}")
    layers = tuple(_layer(files, name) for name in image.layers)
    manifest = Manifest(2, describe(data, media_types.OCI_CONFIG), layers, media_types.OCI_MANIFEST)
    configs.fits(manifest, config, files.subject)
    for layer, diff_id in zip(layers, config.diff_ids, strict=True):
        if layer.media_type == media_types.OCI_LAYER and layer.digest != diff_id:
            raise files.refused(f"a layer has the digest {layer.digest}, its config says {diff_id}")
    encoded = documents.encode(manifest)
    target = describe(encoded, media_types.OCI_MANIFEST)
    files.content.put(encoded, target.parsed)
    return target


def _layer(files: _Files, name: str) -> Descriptor:
    found = files.find(name)
    blob = files.content.open(Digest.parse(found.digest))
    try:
        form = form_of(os.pread(blob, 4, 0))
    finally:
        os.close(blob)
    return msgspec.structs.replace(found, media_type=media_types.OCI_LAYER + _COMPRESSED[form])
