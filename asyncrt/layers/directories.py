"""The directories of a tree that is being filled, opened beneath its root and kept open for the entry that follows.

Tars name one directory's entries one after the other: with the last few open, an entry costs no resolution of a path.
One that is not open is opened from the root by openat2(2), symlinks followed as if the root were / (an entry may come
through a symlink of the same tree, `lib -> usr/lib`), and nothing ever outside.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from shimd.linux.paths import open_in_root

MOST_OPEN = 64


class Directories:
    """Open directories of the tree `root` (an fd, not closed here). `make(parent, name, path)` makes one that lacks."""

    def __init__(
        self,
        root: int,
        make: Callable[[int, bytes, bytes], None],
        opened: Callable[[bytes, int], None] | None = None,
    ) -> None:
        """`opened(path, fd)` is told of every directory before something is made in it."""
        self._root = root
        self._make = make
        self._opened = opened
        self._open: dict[bytes, int] = {b"": root}

    def find(self, path: bytes) -> int:
        """An O_PATH fd on the directory `path`, good until forget().

        FileNotFoundError: it is not there. NotADirectoryError: something else is.
        """
        found = self._open.get(path)
        if found is not None:
            return found
        found = open_in_root(self._root, os.fsdecode(path), os.O_PATH | os.O_DIRECTORY)
        if self._opened is not None:
            self._opened(path, found)
        if len(self._open) > MOST_OPEN:
            for oldest in list(self._open)[1 : MOST_OPEN // 2]:
                os.close(self._open.pop(oldest))
        self._open[path] = found
        return found

    def open(self, path: bytes) -> int:
        """As find(), made with what is above it if it is not there."""
        found = self._open.get(path)
        if found is not None:
            return found
        try:
            return self.find(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        above, _, name = path.rpartition(b"/")
        self._make(self.open(above), name, path)
        return self.find(path)

    def forget(self) -> None:
        """Close all: something that was a directory, or led to one, is none any more."""
        for path, directory in list(self._open.items()):
            if path:
                del self._open[path]
                os.close(directory)
