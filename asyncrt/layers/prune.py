"""The removal of what layers below have put into a tree: all that the layer at hand did not make itself."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Set

from asyncrt.snapshots import removal

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def prune(directory: int, path: bytes, made: Set[bytes], only: bytes | None = None) -> None:
    """Remove what is in `directory` (an fd on the tree's `path`), or `only` one name there; `made` stays.

    `made` holds paths of the tree with all that is above them. OSError if something cannot be removed.
    """
    below = os.open(".", _DIRECTORY, dir_fd=directory)  # an O_PATH fd cannot be read
    try:
        names = [os.fsencode(name) for name in os.listdir(below)] if only is None else [only]
        for name in names:
            full = b"/".join((path, name)) if path else name
            if full not in made:
                failures = _remove(below, name)
                if failures:
                    raise OSError(errno.EIO, str(failures[0]))
                continue
            try:
                if not stat.S_ISDIR(os.stat(name, dir_fd=below, follow_symlinks=False).st_mode):
                    continue
            except FileNotFoundError:
                continue
            inner = os.open(name, _DIRECTORY, dir_fd=below)
            try:
                prune(inner, full, made)
            finally:
                os.close(inner)
    finally:
        os.close(below)


def _remove(directory: int, name: bytes) -> list[removal.Failure]:
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return removal.remove_tree(directory, os.fsdecode(name), "")
    except FileNotFoundError:
        pass
    return []
