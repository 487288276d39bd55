"""A file or tree to entries, as `cp` takes it: of a tree in use, from a name in a directory that is open.

    for found in packed(parent, b"log", b"copy"): ...        what is `log` there, called `copy`

Every directory is opened from the fd of its parent and nothing is followed, whoever moves things about meanwhile. What
vanishes is left out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from asyncrt.layers.walk import Directory, Found, enter, found_at


def packed(parent: int, name: bytes, shown: bytes, spared: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Found]:
    """What `name` of the directory `parent` is, called `shown` (b"": what is in it), and all below it.

    Of the directories `spared` (device, inode) nothing below is told. FileNotFoundError.
    """
    top = found_at(parent, shown, name)
    if top is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    yield top
    if not top.is_directory:
        return
    stack = [enter(parent, name, shown)]
    try:
        while stack:
            directory = stack[-1]
            if not directory.names:
                os.close(stack.pop().fd)
                continue
            found = directory.look(directory.names.pop())
            if found is None:
                continue
            yield found
            if found.is_directory and (found.status.st_dev, found.status.st_ino) not in spared:
                inner = _enter(found)
                if inner is not None:
                    stack.append(inner)
    finally:
        for directory in stack:
            os.close(directory.fd)


def _enter(found: Found) -> Directory | None:
    """The directory; None if it is none any more."""
    try:
        return enter(found.parent, found.name, found.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symlink by now
            return None
        raise
