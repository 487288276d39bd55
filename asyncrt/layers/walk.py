"""A tree to entries, in one order, on dirfds: what diff writes.

Names are in the order of their bytes, a directory before what is in it. Paths of the tree are nobody's but a
container's: every directory is opened from the fd of its parent, and nothing is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from asyncrt.errors import BadImage
from asyncrt.layers.entry import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, SYMLINK, Entry
from asyncrt.layers.limits import PATH_MAX
from asyncrt.layers.metadata import kept

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}


class Found(NamedTuple):
    """One name in a directory: `parent` is the directory's fd (good until the next one is asked for), `name` there.

    `xattrs` are all of them, also those that no layer has.
    """

    path: bytes
    parent: int
    name: bytes
    status: os.stat_result
    xattrs: dict[bytes, bytes]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_whiteout(self) -> bool:
        """Whether it is overlayfs's mark that a name is gone."""
        return stat.S_ISCHR(self.status.st_mode) and not self.status.st_rdev

    def entry(self) -> Entry:
        """What a layer says of it. BadImage for what no layer can say: a socket."""
        status = self.status
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            raise BadImage("write layer", os.fsdecode(self.path), "a socket has no form in a layer")
        device = status.st_rdev if kind in (CHAR, BLOCK_DEVICE) else 0
        return Entry(
            self.path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_size if kind == FILE else 0,
            status.st_mtime_ns,
            os.readlink(self.name, dir_fd=self.parent) if kind == SYMLINK else b"",
            os.major(device),
            os.minor(device),
            {name: value for name, value in self.xattrs.items() if kept(name)},
        )


class Directory:
    """An open directory of a walk, with the names in it that are still to come."""

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path
        self.names = sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)

    def look(self, name: bytes) -> Found | None:
        """What has the name; None: nothing."""
        return found_at(self.fd, self.path + b"/" + name if self.path else name, name)


def found_at(parent: int, path: bytes, name: bytes | None = None) -> Found | None:
    """What the directory `parent` has as `name` (the last part of `path`, unless told); None: nothing."""
    if name is None:
        name = path.rpartition(b"/")[2]
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if len(path) >= PATH_MAX:
        shown = os.fsdecode(path[:80])
        raise BadImage("write layer", repr(shown), "the path is longer than any reader of layers takes")
    return Found(path, parent, name, status, _xattrs(parent, name, status))


def enter(parent: int, name: bytes, path: bytes) -> Directory:
    """The directory of that name, opened."""
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        return Directory(fd, path)
    except BaseException:
        os.close(fd)
        raise


def walk(root: int) -> Iterator[Found]:
    """All that is below the directory `root` (an fd). OSError."""
    stack = [enter(root, b".", b"")]
    try:
        while stack:
            directory = stack[-1]
            if not directory.names:
                os.close(stack.pop().fd)
                continue
            found = directory.look(directory.names.pop())
            if found is not None:  # else removed meanwhile
                yield found
                if found.is_directory:
                    stack.append(enter(found.parent, found.name, found.path))
    finally:
        for directory in stack:
            os.close(directory.fd)


def root_of(root: int) -> Found:
    """The tree's own root, as a Found with the empty path."""
    return Found(b"", root, b".", os.fstat(root), _xattrs(root, b".", os.fstat(root)))


def _xattrs(parent: int, name: bytes, status: os.stat_result) -> dict[bytes, bytes]:
    path = b"/proc/self/fd/%d/%s" % (parent, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOENT):
            return {}
        raise
    found = {}
    for attribute in names:
        try:
            found[os.fsencode(attribute)] = os.getxattr(path, attribute, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENODATA:  # gone meanwhile
                raise
    return found
