"""A content store for tests: checked files in a directory, ingests that survive their process."""

import hashlib
import os
from pathlib import Path

from asyncrt.errors import BadImage, NoSuchObject
from asyncrt.model.descriptor import Descriptor, describe


class Shelf:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.began: list[tuple[str, int]] = []
        (place / "blobs").mkdir(parents=True, exist_ok=True)
        (place / "ingests").mkdir(exist_ok=True)
        self.open_ingests: set[str] = set()

    def path(self, digest: str) -> Path:
        return self.place / "blobs" / digest.replace(":", "-")

    def add(self, data: bytes, media_type: str) -> Descriptor:
        found = describe(data, media_type)
        self.path(found.digest).write_bytes(data)
        return found

    def check(self) -> int:
        """Every visible blob is what its name says; how many there are."""
        found = list((self.place / "blobs").iterdir())
        for path in found:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition("-")[2]
        return len(found)

    async def has(self, descriptor: Descriptor) -> bool:
        return self.path(descriptor.digest).exists()

    async def open(self, descriptor: Descriptor) -> "ShelfReader":
        try:
            return ShelfReader(os.open(self.path(descriptor.digest), os.O_RDONLY))
        except FileNotFoundError:
            raise NoSuchObject("open blob", descriptor.digest, "it is not there") from None

    async def ingest(self, name: str, descriptor: Descriptor) -> "ShelfIngest":
        assert name not in self.open_ingests, "two ingests of one blob"
        self.open_ingests.add(name)
        ingest = ShelfIngest(self, name, descriptor)
        self.began.append((name, ingest.offset))
        return ingest


class ShelfReader:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    async def close(self) -> None:
        os.close(self._fd)


class ShelfIngest:
    def __init__(self, shelf: Shelf, name: str, descriptor: Descriptor) -> None:
        self._shelf = shelf
        self._name = name
        self._descriptor = descriptor
        self._path = shelf.place / "ingests" / name.replace(":", "-")
        self._file = self._path.open("ab")

    @property
    def offset(self) -> int:
        return self._file.tell()

    async def write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    async def commit(self) -> None:
        try:
            self._descriptor.check(self._path.read_bytes())
        except BadImage:
            self._file.truncate(0)
            self._file.seek(0)
            raise
        self._path.rename(self._shelf.path(self._descriptor.digest))

    async def close(self) -> None:
        self._shelf.open_ingests.discard(self._name)
        self._file.close()
