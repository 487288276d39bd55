"""The blobs: a file each, named by its digest.

    ROOT/content/blobs/sha256/HEX       0400 until it is known to be on disk, 0444 from then on
    ROOT/content/ingests/KEY/           on their way: ingest.py

A blob is visible by rename(2), after its bytes were held against its digest. That survives kill -9 as it is; a machine
that loses power may lose bytes that the kernel has not written yet, and keep the name. So a blob has two states, kept
in its mode: settle() gives the bytes to the disk, behind the answer, and then marks it; one that is not marked is
read against its digest when it is first opened by a process that did not write it. The road not taken is fsync in
commit: measured in docs/decisions/0016-content-on-disk.md.

Methods block: they are called in worker threads, by many at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from asyncrt.content.ingest import Ingest, IngestStatus
from asyncrt.errors import BadImage, NoSuchObject, StorageFailed
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import ALGORITHMS, Digest, is_digest

SETTLED, UNSETTLED = 0o444, 0o400
_READ = 1 << 20


class Content:
    """The content store of the engine whose place is `root`.

    with content.ingest("layer sha256:...", digest) as ingest:
        ingest.write(data)
        ingest.commit(size)
    blob = content.open(digest)         # an fd
    """

    def __init__(self, root: Path) -> None:
        self.directory = root / "content"
        self._lock = threading.Lock()
        self._trusted: set[str] = set()  # those that this process has read or written itself
        self._held: Counter[str] = Counter()
        self._young: set[str] | None = None  # held or committed since a collection began
        try:
            for name in ("ingests", *(f"blobs/{algorithm}" for algorithm in ALGORITHMS)):
                # 0700: images are nobody else's business, and may hold set-uid files.
                os.makedirs(self.directory / name, 0o700, exist_ok=True)
        except OSError as error:
            raise StorageFailed("make directory", str(self.directory), _cause(error)) from error

    def path(self, digest: Digest) -> str:
        """Where the blob is, or would be."""
        return f"{self.directory}/blobs/{digest.algorithm}/{digest.encoded}"

    # Reading

    def size(self, digest: Digest) -> int | None:
        """The bytes of a blob; None if it is not there."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None

    def open(self, digest: Digest, check: Callable[[], None] | None = None) -> int:
        """An fd on a blob that is what its digest says, to be closed by the caller.

        NoSuchObject: it is not there. BadImage: it was damaged, and is removed, so that it can be fetched again. The
        first open after a crash reads the whole blob; `check` is called meanwhile and may raise.
        """
        try:
            blob = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchObject("open blob", str(digest), "it is not in the content store", "pull it again") from None
        except OSError as error:
            raise StorageFailed("open blob", str(digest), _cause(error)) from error
        try:
            if os.fstat(blob).st_mode & 0o777 != SETTLED and str(digest) not in self._trusted:
                self._verify(blob, digest, check)
        except BaseException:
            os.close(blob)
            raise
        return blob

    def read(self, descriptor: Descriptor, most: int = 8 << 20) -> bytes:
        """A small blob, held against its descriptor. As open(); BadImage if it has more than `most` bytes."""
        if descriptor.size > most:
            raise BadImage("read blob", descriptor.digest, f"it has {descriptor.size} bytes, where {most} are the most")
        blob = self.open(descriptor.parsed)
        try:
            data = _read(blob, 0, descriptor.size + 1)
        except OSError as error:
            raise StorageFailed("read blob", descriptor.digest, _cause(error)) from error
        finally:
            os.close(blob)
        descriptor.check(data)
        return data

    def digests(self) -> Iterator[Digest]:
        """Every blob there is."""
        for algorithm in ALGORITHMS:
            for name in os.listdir(self.directory / "blobs" / algorithm):
                if is_digest(f"{algorithm}:{name}"):
                    yield Digest(algorithm, name)

    def _verify(self, blob: int, digest: Digest, check: Callable[[], None] | None) -> None:
        hasher = digest.hasher()
        position = 0
        try:
            while data := os.pread(blob, _READ, position):
                hasher.update(data)
                position += len(data)
                if check is not None:
                    check()
        except OSError as error:
            raise StorageFailed("read blob", str(digest), _cause(error)) from error
        if not digest.matches(hasher):
            self.remove(digest)
            cause = f"its bytes have the digest {digest.algorithm}:{hasher.hexdigest()}"
            raise BadImage("check blob", str(digest), cause, "it was damaged and is removed: pull it again")
        with self._lock:
            self._trusted.add(str(digest))

    # Writing

    def ingest(self, ref: str, digest: Digest | None = None) -> Ingest:
        """The ingest `ref`, begun or resumed; `digest` is what it is to become, if that is known.

        Conflict: somebody is writing it. StorageFailed: the disk refuses.
        """
        return Ingest(self.directory / "ingests", ref, digest, self._commit)

    def put(self, data: bytes, digest: Digest) -> None:
        """A blob that is at hand. BadImage: it has another digest."""
        with self.ingest(f"put {digest}", digest) as ingest:
            ingest.restart()
            ingest.write(data)
            ingest.commit(len(data))

    def ingests(self) -> list[IngestStatus]:
        """What is on its way, also what a crash has left."""
        found = []
        for key in os.listdir(self.directory / "ingests"):
            status = Ingest.status(self.directory / "ingests" / key)
            if status is not None:
                found.append(status)
        return found

    def _commit(self, data: str, digest: Digest) -> None:
        """Make the file `data` the blob `digest`, which it is. That there is one already is no error."""
        os.chmod(data, UNSETTLED)
        with self._lock:
            if self._young is not None:
                self._young.add(str(digest))
            # What a power cut may have damaged is replaced; whoever has it open keeps it.
            if (str(digest) in self._trusted or self._settled(digest)) and self.size(digest) is not None:
                return
            os.rename(data, self.path(digest))
            self._trusted.add(str(digest))

    def _settled(self, digest: Digest) -> bool:
        try:
            return os.stat(self.path(digest)).st_mode & 0o777 == SETTLED
        except FileNotFoundError:
            return False

    def settle(self, check: Callable[[], None] | None = None) -> int:
        """Give to the disk what it may not have yet, and mark it; how many blobs that were. For quiet times."""
        count = 0
        for digest in list(self.digests()):
            if check is not None:
                check()
            try:
                if self._settled(digest):
                    continue
                blob = self.open(digest, check)
            except (NoSuchObject, BadImage):
                continue  # removed meanwhile; or damaged, and removed by that
            try:
                os.fsync(blob)
                os.fchmod(blob, SETTLED)
                count += 1
            except OSError as error:
                raise StorageFailed("write blob to disk", str(digest), _cause(error)) from error
            finally:
                os.close(blob)
        return count

    # Removing

    def remove(self, digest: Digest) -> None:
        """Forget a blob; whoever has it open keeps what it has. One that is not there is removed already."""
        with self._lock:
            self._remove(digest)

    def _remove(self, digest: Digest) -> None:
        self._trusted.discard(str(digest))
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageFailed("remove blob", str(digest), _cause(error)) from error

    @contextlib.contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep blobs, also those that are still to come, until something refers to them.

        Taken before one looks whether they are there, given back after the metadata says who needs them.
        """
        names = [str(digest) for digest in digests]
        with self._lock:
            self._held.update(names)
            if self._young is not None:
                self._young.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(names)
                for name in names:
                    if not self._held[name]:
                        del self._held[name]

    def collect(self, mark: Callable[[], set[str]]) -> list[Digest]:
        """Remove every blob that mark() does not name; those that are removed. One collection at a time.

        mark() is called after the collection has begun to note what is held or committed, and all of that stays: so a
        blob is either in what mark() saw, or it is noted, whenever its pull ends. Conflict is impossible by that.
        """
        with self._lock:
            if self._young is not None:
                raise StorageFailed("collect blobs", str(self.directory), "another collection is under way")
            self._young = set(self._held)
        try:
            live = mark()
            removed = []
            for digest in list(self.digests()):
                with self._lock:
                    name = str(digest)
                    if name not in live and name not in self._young and name not in self._held:
                        self._remove(digest)
                        removed.append(digest)
            return removed
        finally:
            with self._lock:
                self._young = None


def _read(blob: int, position: int, count: int) -> bytes:
    parts = []
    while count and (data := os.pread(blob, min(count, _READ), position)):
        parts.append(data)
        position, count = position + len(data), count - len(data)
    return b"".join(parts)


def _cause(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
