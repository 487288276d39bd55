"""Committed layers by chainID: made aside, shown by one rename, believed after a power cut only if the disk had them.

    ROOT/layers/NAME/new.N/            being filled: fs (the tree), layer (what it is to be)
    ROOT/layers/NAME/sha256-HEX/fs     the tree of one chain
    ROOT/layers/NAME/sha256-HEX/layer  JSON: chain, parent, and the boot in which it was committed
    ROOT/layers/NAME/sha256-HEX/settled   there once the disk has all of it

kill -9 takes nothing from a committed layer. A power cut may: so one without `settled` that was committed in another
boot is swept, and unpacked again from its blob. The road not taken is syncfs(2) on the way of every pull.

Lifecycle, for each snapshotter: begin -> (the layer's tar is unpacked into it) -> commit | drop; then source (what a
container stands on), usage, remove; sweep at start-up, settle in quiet times. Methods block; they are safe to be called
by many threads, and one chain is committed once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from asyncrt.errors import BadRequest, Conflict, NoSuchObject, StorageFailed
from asyncrt.model.digest import Digest, is_digest
from asyncrt.snapshots import removal
from shimd.linux.disks import syncfs


class Begun(NamedTuple):
    """A layer that is being made: `tree` is the directory to unpack it into."""

    chain: Digest
    parent: Digest | None
    place: str

    @property
    def tree(self) -> str:
        return f"{self.place}/fs"


class Stored(msgspec.Struct, frozen=True):
    """The file `layer`."""

    chain: str
    parent: str
    boot: str


class Shelf:
    """The committed layers of one snapshotter, in `directory`."""

    def __init__(self, directory: Path, boot: str | None = None) -> None:
        """`boot`: what names this boot; for tests."""
        self.directory = directory
        self._boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._parents: dict[str, str] | None = None  # chain -> parent ("" for none), read once

    # Making

    def begin(self, chain: Digest, parent: Digest | None) -> Begun:
        """An empty directory for a layer. StorageFailed: the disk refuses."""
        place = f"{self.directory}/new.{os.getpid()}.{next(self._numbers)}"
        try:
            # 0700: a layer holds set-uid files, which the machine's users must not reach.
            os.makedirs(self.directory, 0o700, exist_ok=True)
            os.mkdir(place, 0o700)
            os.mkdir(f"{place}/fs", 0o755)
        except OSError as error:
            raise _failed("prepare layer", place, error) from error
        return Begun(chain, parent, place)

    def commit(self, begun: Begun) -> None:
        """Show it under its chainID. That the chain is there already is success: this one is dropped then.

        Conflict: its parent is not there. The tree must not be written to any more.
        """
        stored = Stored(str(begun.chain), str(begun.parent or ""), self._boot)
        name = self._place(begun.chain)
        try:
            Path(begun.place, "layer").write_bytes(msgspec.json.encode(stored))
            with self._lock:
                known = self._known()
                if begun.parent is not None and stored.parent not in known:
                    raise Conflict("commit layer", stored.chain, f"its parent {stored.parent} is not there")
                there = stored.chain in known
                if not there:
                    os.rename(begun.place, name)
                    known[stored.chain] = stored.parent
        except OSError as error:
            raise _failed("commit layer", stored.chain, error) from error
        if there:
            self.drop(begun)

    def drop(self, begun: Begun) -> None:
        """Forget a layer that is not to be. One that is not there is dropped already."""
        self._remove([os.path.basename(begun.place)])

    # What there is

    def chains(self) -> list[Digest]:
        """Every committed layer."""
        with self._lock:
            return [Digest.parse(chain) for chain in self._known()]

    def has(self, chain: Digest) -> bool:
        """Whether the chain is committed."""
        with self._lock:
            return str(chain) in self._known()

    def trees(self, chain: Digest) -> list[str]:
        """The directories of a chain and all below it, the top first. NoSuchObject: one is not there."""
        found, name = [], str(chain)
        with self._lock:
            known = self._known()
            while name:
                if name not in known:
                    raise NoSuchObject("find layer", name, "it is not unpacked", "pull the image again")
                found.append(f"{self._place(Digest.parse(name))}/fs")
                name = known[name]
        return found

    def usage(self, chain: Digest) -> tuple[int, int, bool]:
        """(bytes on disk, inodes, whether all was seen) of the layer itself."""
        try:
            directory = os.open(self._place(chain), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return removal.count_tree(directory, "fs")
            finally:
                os.close(directory)
        except OSError as error:
            raise _failed("measure layer", str(chain), error) from error

    # Removing

    def remove(self, chain: Digest) -> None:
        """Remove a layer; one that is not there is removed already. Conflict: another stands on it.

        That no container stands on it is the caller's to know.
        """
        with self._lock:
            known = self._known()
            if str(chain) not in known:
                return
            above = next((name for name, parent in known.items() if parent == str(chain)), None)
            if above is not None:
                raise Conflict("remove layer", str(chain), f"the layer {above} stands on it", "remove that one first")
            aside = f"gone.{os.getpid()}.{next(self._numbers)}"
            try:
                # So that it is not there any more, whatever happens to the removal.
                os.rename(self._place(chain), self.directory / aside)
            except OSError as error:
                raise _failed("remove layer", str(chain), error) from error
            del known[str(chain)]
        self._remove([aside])

    def sweep(self) -> list[str]:
        """Remove what a crash has left, and what a power cut may have damaged; the names. Before anything is begun."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _failed("list layers", str(self.directory), error) from error
        good: dict[str, str] = {}
        for name in names:
            stored = self._read(name)
            settled = os.path.exists(self.directory / name / "settled")
            if stored is not None and (settled or stored.boot == self._boot):
                good[stored.chain] = stored.parent
        # What stands on a layer that goes, goes.
        while lost := [chain for chain, parent in good.items() if parent and parent not in good]:
            for chain in lost:
                del good[chain]
        kept = {os.path.basename(self._place(Digest.parse(chain))) for chain in good}
        left = [name for name in names if name not in kept]
        self._remove(left)
        with self._lock:
            self._parents = good
        return left

    def settle(self) -> int:
        """Give all layers to the disk that it may not have yet; how many those were. For quiet times."""
        waiting = [place for chain in self.chains() if not os.path.exists(f"{(place := self._place(chain))}/settled")]
        if not waiting:
            return 0
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(directory)
            finally:
                os.close(directory)
            for place in waiting:
                try:
                    os.close(os.open(f"{place}/settled", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o400))
                except FileNotFoundError:
                    continue  # removed meanwhile
        except OSError as error:
            raise _failed("write layers to disk", str(self.directory), error) from error
        return len(waiting)

    def _place(self, chain: Digest) -> str:
        return f"{self.directory}/{chain.algorithm}-{chain.encoded}"

    def _known(self) -> dict[str, str]:
        """chain -> parent of what is committed; read once, since this process alone writes here."""
        if self._parents is None:
            found = {}
            names = os.listdir(self.directory) if self.directory.exists() else []
            for stored in map(self._read, names):
                if stored is not None:
                    found[stored.chain] = stored.parent
            self._parents = found
        return self._parents

    def _read(self, name: str) -> Stored | None:
        """What the directory `name` is; None: nothing that was committed, or the file was lost."""
        if not is_digest(name.replace("-", ":", 1)):
            return None
        try:
            stored = msgspec.json.decode((self.directory / name / "layer").read_bytes(), type=Stored)
        except (OSError, msgspec.DecodeError):
            return None
        parent_is_one = not stored.parent or is_digest(stored.parent)
        return stored if stored.chain == name.replace("-", ":", 1) and parent_is_one else None

    def _remove(self, names: Sequence[str]) -> None:
        if not names:
            return
        failures = []
        try:
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _failed("remove layer", str(self.directory), error) from error
        try:
            for name in names:
                try:
                    os.unlink(name, dir_fd=directory)
                except FileNotFoundError:
                    pass
                except OSError:  # a directory: EISDIR, or EPERM by POSIX
                    failures += removal.remove_tree(directory, name, str(self.directory))
        finally:
            os.close(directory)
        if failures:
            raise StorageFailed("remove layer", failures[0].path, failures[0].cause, failures[0].hint)


def check_chain(chain: Digest | None) -> None:
    """BadRequest for a chain of another hash than sha256: the spec's chainIDs are of that."""
    if chain is not None and chain.algorithm != "sha256":
        raise BadRequest("name layer", str(chain), "a chainID is a sha256 digest")


def _failed(deed: str, subject: str, error: OSError) -> StorageFailed:
    return StorageFailed(deed, subject, (error.strerror or str(error)).lower())
