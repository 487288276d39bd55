"""Directories of containers: made in one call for many, removed in batches behind whoever asked.

A container has `ROOT/containers/ID` (streams, index, exit record), a snapshot of its own, and the volumes that its
image asks for (image_volumes.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import trio

from asyncrt.engine.image_volumes import ImageVolumes
from asyncrt.errors import AsyncrtError, StorageFailed, Unavailable
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.removal import remove_tree
from asyncrt.snapshots.sources import Source
from asyncrt.supervisor.promise import Promise
from shimd.wire.messages import RootMount


class Directories:
    """Blocking; call it in a worker thread."""

    def __init__(self, root: Path, snapshots: Overlay) -> None:
        self.containers = root / "containers"
        self.snapshots = snapshots
        self.volumes = ImageVolumes(root / "volumes")

    def of(self, id: str) -> Path:
        return self.containers / id

    def make(self, ids: Sequence[str], source: Source, read_only: bool, volumes: Sequence[str] = ()) -> list[RootMount]:
        """Snapshot and directory for each id, with the volumes that the image asks for, or none at all.

        StorageFailed or BadImage say what went wrong.
        """
        mounts = self.snapshots.prepare(ids, source, read_only)
        made: list[str] = []
        try:
            for id in ids:
                self.of(id).mkdir(0o700)
                made.append(id)
                self.volumes.make(id, volumes, source)
        except (OSError, AsyncrtError) as error:
            self.volumes.remove(made)
            for one in made:
                self.of(one).rmdir()
            self.snapshots.remove(ids)
            if isinstance(error, AsyncrtError):
                raise
            raise StorageFailed(
                "create", error.filename or str(self.containers), (error.strerror or "").lower()
            ) from error
        return mounts

    def volumes_of(self, id: str, targets: Sequence[str]) -> list[tuple[str, str]]:
        """(directory, place in the container) of each volume that the image asks for."""
        return list(zip(self.volumes.places(id, len(targets)), targets, strict=True))

    def remove(self, ids: Sequence[str]) -> None:
        """All of it, for each id; gone already is fine. StorageFailed names what would not go.

        The volumes too: no verb could find them afterwards.
        """
        parent = os.open(self.containers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            failures = [failure for id in ids for failure in remove_tree(parent, id, str(self.containers))]
        finally:
            os.close(parent)
        self.snapshots.remove(ids)
        self.volumes.remove(ids)
        if failures:
            raise StorageFailed("remove", str(self.containers), "; ".join(map(str, failures)))

    def known(self) -> set[str]:
        """Every id that has something on disk."""
        ids = set(self.snapshots.keys())
        for directory in (self.containers, self.volumes.directory):
            with contextlib.suppress(FileNotFoundError):
                ids.update(os.listdir(directory))
        return ids


class Sweeper:
    """Removals that wait while one batch runs go into the next: 300 at once cost a few thread calls."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._waiting: list[tuple[str, Promise[None]]] = []
        self._wake = trio.Event()
        self._closed = False

    async def remove(self, id: str) -> None:
        """Done when it is gone; StorageFailed. Unavailable when the supervisor stops: the next one removes it."""
        if self._closed:
            raise _stopping(id)
        promise: Promise[None] = Promise()
        self._waiting.append((id, promise))
        self._wake.set()
        await promise.wait()

    async def run(self) -> None:
        """Serve until cancelled; whoever waits then is told."""
        batch: list[tuple[str, Promise[None]]] = []
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                batch, self._waiting = self._waiting, []
                await self._remove(batch)
        finally:
            self._closed = True
            for id, promise in batch + self._waiting:
                promise.fail(_stopping(id))

    async def _remove(self, batch: list[tuple[str, Promise[None]]]) -> None:
        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(self._directories.remove, [id for id, _ in batch])
            except StorageFailed:
                await self._one_by_one(batch)
        for _, promise in batch:
            promise.set(None)

    async def _one_by_one(self, batch: list[tuple[str, Promise[None]]]) -> None:
        """One is at fault: only its caller hears of it."""
        for id, promise in batch:
            try:
                await trio.to_thread.run_sync(self._directories.remove, [id])
            except StorageFailed as error:
                promise.fail(error)


def _stopping(id: str) -> Unavailable:
    return Unavailable("remove", id[:12], "the supervisor is stopping", "the next one finishes it; try again")
