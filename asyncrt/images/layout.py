"""An OCI layout as a directory: read into the store, written from it.

    DIR/oci-layout, DIR/index.json, DIR/blobs/ALGORITHM/HEX

A layout may come from anybody: files are opened beneath the directory and must be regular, a blob is what its digest
says or is refused. Source: image-spec v1.1.1, image-layout.md.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from asyncrt.content.store import Content
from asyncrt.errors import BadImage, NoSuchObject, StorageFailed, shown
from asyncrt.images import documents
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Index
from asyncrt.images.loading import (
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_VERSION,
    REF_NAME,
    Layout,
    Loaded,
    check_layout,
    images_of,
    name_of,
)
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import Digest
from shimd.linux.paths import open_in_root

_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DEEPEST = 3


def load_layout(directory: Path, content: Content, subject: str = "", only: str | None = None) -> list[Loaded]:
    """The images of a layout, with all their blobs in the store. BadImage or StorageFailed.

    `only`: the one of that name or tag alone, "" for the only one that there is; NoSuchObject if it is not there.
    """
    subject = subject or str(directory)
    with opened(directory) as root:
        check_layout(small(root, LAYOUT_FILE, subject), subject)
        data = small(root, INDEX_FILE, subject)
        index = documents.read(data, media_types.OCI_INDEX, subject)
        assert isinstance(index, Index)
        if only is not None:
            index = msgspec.structs.replace(index, manifests=(chosen(index.manifests, only, subject),))
            data = documents.encode(index)
        for entry in index.manifests:
            _take(root, entry, content, subject, 0)
    return images_of(data, content, subject)


def chosen(entries: Sequence[Descriptor], name: str, subject: str) -> Descriptor:
    """The entry of that name; NoSuchObject says which there are."""
    found = [entry for entry in entries if name_of(entry) == name or entry.annotations.get(REF_NAME) == name]
    if not name:
        found = list(entries)
    if len(found) == 1 or (found and len({entry.digest for entry in found}) == 1):
        return found[0]
    there = ", ".join(sorted(filter(None, map(name_of, entries)))[:12])
    cause = f"there is no {shown(name)!r} in it" if name else f"there are {len(entries)} images in it"
    raise NoSuchObject("find image", subject, cause, f"there are: {there}" if there else "")


def _take(root: int, target: Descriptor, content: Content, subject: str, depth: int) -> None:
    """A blob and all that it names; of an index what the layout has not is left out."""
    if not take_blob(root, target, content, subject, needed=depth == 0):
        return
    if target.media_type not in media_types.INDEXES | media_types.MANIFESTS:
        return
    document = documents.read(content.read(target, MAX_BYTES), target.media_type, f"{target.digest} of {subject}")
    if not isinstance(document, Index):
        for part in (document.config, *document.layers):
            take_blob(root, part, content, subject, needed=depth == 0)
    elif depth < _DEEPEST:
        for entry in document.manifests:
            _take(root, entry, content, subject, depth + 1)


def take_blob(root: int, descriptor: Descriptor, content: Content, subject: str, needed: bool, path: str = "") -> bool:
    """Have the blob in the store; False if it is neither there nor in the directory, and is not `needed`."""
    digest = descriptor.parsed
    if content.size(digest) == descriptor.size:
        return True
    try:
        file = open_file(root, path or f"blobs/{digest.algorithm}/{digest.encoded}", subject)
    except FileNotFoundError:
        if needed:
            raise BadImage("read layout", subject, f"the blob {digest} is not in it") from None
        return False
    try:
        with content.ingest(f"load {digest}", digest) as ingest:
            ingest.restart()
            while ingest.offset <= descriptor.size and (chunk := os.read(file, _CHUNK)):
                ingest.write(chunk)
            ingest.commit(descriptor.size)
    except OSError as error:
        raise _failed(subject, error) from error
    finally:
        os.close(file)
    return True


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[int]:
    """An fd on the directory, to open files beneath. StorageFailed."""
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(str(directory), error) from error
    try:
        yield root
    finally:
        os.close(root)


def open_file(root: int, path: str, subject: str) -> int:
    """A regular file beneath the layout. FileNotFoundError goes through."""
    try:
        file = open_in_root(root, path, _OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _failed(subject, error) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BadImage("read layout", subject, f"{path} is no file")
    return file


def small(root: int, name: str, subject: str) -> bytes:
    """A document of the layout."""
    try:
        file = open_file(root, name, subject)
    except FileNotFoundError:
        raise BadImage("read layout", subject, f"there is no {name} in it", "is it a layout?") from None
    with os.fdopen(file, "rb") as opened:
        return opened.read(MAX_BYTES + 1)


class Target:
    """A layout that is being written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, blob: Descriptor, chunks: Iterator[bytes]) -> None:
        """A blob, unless one of that size is there."""
        digest = Digest.parse(blob.digest)
        path = self._directory / "blobs" / digest.algorithm / digest.encoded
        if path.exists() and path.stat().st_size == blob.size:
            return
        replace(path, chunks)

    def list(self, entries: list[Descriptor]) -> None:
        """Add images to the index; those of the same names go."""
        path = self._directory / INDEX_FILE
        before: tuple[Descriptor, ...] = ()
        if path.exists():
            index = documents.read(path.read_bytes(), media_types.OCI_INDEX, str(path))
            before = index.manifests if isinstance(index, Index) else ()
        names = {name_of(entry) for entry in entries} - {""}
        known = {entry.digest for entry in entries}
        kept = [one for one in before if name_of(one) not in names and (name_of(one) or one.digest not in known)]
        data = documents.encode(Index(2, (*kept, *entries), media_types.OCI_INDEX))
        replace(path, iter([data]))


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[Target]:
    """The layout in `directory`, made if it is not there. BadImage if there is something else."""
    subject = str(directory)
    try:
        if (directory / LAYOUT_FILE).exists():
            check_layout((directory / LAYOUT_FILE).read_bytes(), subject)
        elif directory.exists() and set(os.listdir(directory)) - {"blobs"}:
            raise BadImage("write layout", subject, "there is something else", "name a directory of its own")
        (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        replace(directory / LAYOUT_FILE, iter([msgspec.json.encode(Layout(LAYOUT_VERSION))]))
        yield Target(directory)
    except OSError as error:
        raise StorageFailed("write layout", subject, (error.strerror or str(error)).lower()) from error


def replace(path: Path, chunks: Iterator[bytes]) -> None:
    """Write a file at once: who reads sees the old one or the whole new one."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _failed(subject: str, error: OSError) -> StorageFailed:
    return StorageFailed("read layout", subject, (error.strerror or str(error)).lower())
