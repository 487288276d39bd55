"""Writable snapshots: one directory a container, made all or none, measured, removed. Whatever they consist of.

    ROOT/snapshots/KEY/fs      the tree that the container writes to

Methods block: the engine calls them in worker threads, with many keys at once. They are safe to run concurrently for
different keys, and not transactions: after a crash keys() tells what is there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asyncrt.errors import AsyncrtError, BadRequest, StorageFailed
from asyncrt.snapshots import removal
from asyncrt.snapshots.sources import Source
from shimd.wire.messages import RootMount

_KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")  # no name with this shape leaves the directory


class Usage(NamedTuple):
    """What a snapshot holds: `bytes` on disk, `inodes`. `complete` is False if it was too deep to see all."""

    bytes: int
    inodes: int
    complete: bool


class Lower(NamedTuple):
    """What the upper root takes over from the lower, since overlay shows the upper's as the root's."""

    mode: int
    uid: int
    gid: int


class Active(ABC):
    """The writable snapshots in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abstractmethod
    def mount(self, key: str, source: Source, read_only: bool) -> RootMount:
        """The mount of a prepared snapshot, over `source` as when it was made."""

    @abstractmethod
    def _fill(self, directory: int, key: str, source: Source, lower: Lower) -> None:
        """Make what is in the new, empty directory `key`. OSError."""

    def prepare(self, keys: Sequence[str], source: Source, read_only: bool) -> list[RootMount]:
        """Make a writable snapshot of `source` for each key; the mounts, in the order of the keys.

        All or none: StorageFailed, also when a key has a snapshot already, names what could not be undone.
        With `read_only` it is writable all the same, since the mount points are made in it; the mount is to become
        read-only after they are.
        """
        made: list[str] = []
        directory = self._open(create=True)
        try:
            lower = _lower(source)
            for key in keys:
                check_key(key)
                try:
                    os.mkdir(key, 0o700, dir_fd=directory)
                    made.append(key)
                    self._fill(directory, key, source, lower)
                except OSError as error:
                    cause = error.strerror.lower() if error.strerror else str(error)
                    raise StorageFailed("prepare snapshot", str(self.directory / key), cause) from error
        except AsyncrtError as error:
            left = self._undo(directory, made)
            if not left:
                raise
            cause = f"{error.cause}; and what was made is left: {'; '.join(left)}"
            raise type(error)(error.deed, error.subject, cause, error.hint, error.code) from error
        finally:
            os.close(directory)
        return [self.mount(key, source, read_only) for key in keys]

    def _undo(self, directory: int, made: list[str]) -> list[str]:
        left = []
        for key in reversed(made):
            left += [str(failure) for failure in removal.remove_tree(directory, key, str(self.directory))]
        return left

    def remove(self, keys: Sequence[str]) -> None:
        """Remove snapshots with all that is in them; those that are not there are removed already.

        Every key is tried. StorageFailed names the first thing that could not be removed, and counts the
        rest.
        """
        for key in keys:
            check_key(key)
        try:
            directory = self._open()
        except FileNotFoundError:
            return
        failures: list[removal.Failure] = []
        try:
            for key in keys:
                failures += removal.remove_tree(directory, key, str(self.directory))
        finally:
            os.close(directory)
        if failures:
            first, more = failures[0], len(failures) - 1
            cause = f"{first.cause}, and {more} more failed" if more else first.cause
            raise StorageFailed("remove snapshot", first.path, cause, first.hint)

    def keys(self) -> list[str]:
        """The keys of all snapshots, also of those that were half made or half removed."""
        try:
            with os.scandir(self.directory) as entries:
                return [entry.name for entry in entries]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageFailed("list snapshots", str(self.directory), str(error.strerror).lower()) from error

    def usage(self, key: str) -> Usage:
        """What the container wrote so far, hardlinks counted once.

        StorageFailed if there is no such snapshot.
        """
        check_key(key)
        try:
            directory = self._open()
            try:
                return Usage(*removal.count_tree(directory, f"{key}/fs"))
            finally:
                os.close(directory)
        except OSError as error:
            cause = str(error.strerror).lower()
            raise StorageFailed("measure snapshot", str(self.directory / key), cause) from error

    def _open(self, create: bool = False) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            return os.open(self.directory, flags)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            raise StorageFailed("open snapshots", str(self.directory), str(error.strerror).lower()) from error
        try:
            # 0700: an upper layer holds set-uid files, which the machine's users must not reach.
            os.makedirs(self.directory.parent, 0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            return os.open(self.directory, flags)
        except OSError as error:
            raise StorageFailed("make directory", str(self.directory), str(error.strerror).lower()) from error


def check_key(key: str) -> None:
    """BadRequest for a key that could lead out of the directory."""
    if not _KEY.fullmatch(key):
        raise BadRequest("name snapshot", repr(key), "that is no key")


def _lower(source: Source) -> Lower:
    try:
        status = os.stat(source.path)
    except OSError as error:
        raise StorageFailed("read image", source.path, str(error.strerror).lower()) from error
    return Lower(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
