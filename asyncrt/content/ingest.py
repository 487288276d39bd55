"""One writer's way to a blob: resumed after whatever ended it, held against its digest, committed once.

    ROOT/content/ingests/KEY/ref    what the writer called it; KEY is made of that
    ROOT/content/ingests/KEY/data   the bytes so far; whoever writes has an flock on KEY

The state of the hash is not stored: a resumed ingest reads what is there, at the speed of the hash, and so it is also
right about bytes that a crash has changed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from asyncrt.errors import BadImage, Conflict, StorageFailed
from asyncrt.model.digest import Digest, new_hash

_READ = 1 << 20
_HINTS = {errno.ENOSPC: "free some space on its file system; what was fetched so far is kept"}


class IngestStatus(NamedTuple):
    """An ingest as somebody else sees it: bytes so far, when the last came (ns since 1970), whether it is written."""

    ref: str
    offset: int
    updated_ns: int
    active: bool


class Ingest:
    """A way to one blob, for one thread at a time. `offset` is how many bytes are there."""

    def __init__(self, place: Path, ref: str, digest: Digest | None, publish: Callable[[str, Digest], None]) -> None:
        self.ref = ref
        self.offset = 0
        self._digest = digest
        self._publish = publish
        self._directory = place / hashlib.sha256(ref.encode()).hexdigest()[:32]
        self._path = f"{self._directory}/data"
        self._algorithm = digest.algorithm if digest else "sha256"
        self._hash = new_hash(self._algorithm)
        self._file = -1
        self._lock = self._take()
        try:
            (self._directory / "ref").write_text(ref)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._catch_up()
        except OSError as error:
            self._release()
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it. What is there is kept, unless it was committed or dropped, or is nothing."""
        if self._lock >= 0 and not self.offset:
            self.drop()
        self._release()

    def _release(self) -> None:
        for file in (self._file, self._lock):
            if file >= 0:
                os.close(file)
        self._file = self._lock = -1

    def _take(self) -> int:
        """The directory, locked. Whoever had it before may have removed it between open and flock: then anew."""
        patience = 5  # status() holds the lock as well, for microseconds
        try:
            while True:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self._directory, 0o700)
                try:
                    lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.stat(self._directory), os.fstat(lock)):
                        return lock
                except BlockingIOError:
                    if not patience:
                        os.close(lock)
                        raise Conflict("write blob", self.ref, "somebody is writing it already") from None
                    patience -= 1
                    time.sleep(0.002)
                except FileNotFoundError:
                    pass
                os.close(lock)
        except OSError as error:
            raise self._failed(error) from error

    def _catch_up(self) -> None:
        while data := os.pread(self._file, _READ, self.offset):
            self._hash.update(data)
            self.offset += len(data)

    def write(self, data: bytes | memoryview) -> None:
        """More bytes. StorageFailed on a full disk: what fitted is kept, and `offset` says how much that was."""
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._file, view, self.offset)
                self._hash.update(view[:done])
                self.offset += done
                view = view[done:]
        except OSError as error:
            raise self._failed(error) from error

    def restart(self) -> None:
        """Forget what is there: the other side begins anew."""
        if not self.offset:
            return
        try:
            os.ftruncate(self._file, 0)
        except OSError as error:
            raise self._failed(error) from error
        self.offset = 0
        self._hash = new_hash(self._algorithm)

    def commit(self, size: int = -1, digest: Digest | None = None) -> Digest:
        """Make it a blob, visible to all at once; its digest. That the blob is there already is success.

        BadImage: other bytes than were said (`size`, if it is not -1, or the digest); they are gone then, since no
        resuming would mend them, and `offset` is 0. StorageFailed: the disk refuses, the ingest is kept.
        """
        wanted = digest or self._digest
        found = Digest(self._algorithm, self._hash.hexdigest())
        if size >= 0 and self.offset != size:
            came = self.offset
            self.restart()
            raise BadImage("store blob", str(wanted or found), f"{came} bytes came, where {size} were said")
        if wanted is not None and wanted != found:
            self.restart()
            raise BadImage("store blob", str(wanted), f"the bytes that came have the digest {found}")
        try:
            self._publish(self._path, found)
        except OSError as error:
            raise self._failed(error) from error
        self.drop()
        return found

    def drop(self) -> None:
        """Remove it, while it is locked: nobody resumes what is going."""
        if self._lock < 0:
            return
        try:
            for name in ("data", "ref"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._directory / name)
            os.rmdir(self._directory)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._release()

    def _failed(self, error: OSError) -> StorageFailed:
        cause = (error.strerror or str(error)).lower()
        return StorageFailed("write blob", self.ref, cause, _HINTS.get(error.errno or 0, ""))

    @staticmethod
    def status(directory: Path) -> IngestStatus | None:
        """Of the ingest in a directory; None if it has just gone."""
        try:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                active = False
            except BlockingIOError:
                active = True
            found = os.stat(directory / "data")
            return IngestStatus((directory / "ref").read_text(), found.st_size, found.st_mtime_ns, active)
        except OSError:
            return None
        finally:
            os.close(lock)
