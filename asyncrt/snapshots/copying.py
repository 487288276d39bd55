"""A tree copied as it is: owners, modes, xattrs, times, hardlinks, devices, holes. On dirfds, nothing followed.

For the native snapshotter, on file systems without overlay. Where the file system shares blocks (btrfs, xfs),
copy_file_range(2) does.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 30


def copy_tree(origin: int, target: int, check: Callable[[], None] = lambda: None) -> None:
    """Copy what is in the directory `origin` (an fd), and what it is, to the empty directory `target`. OSError.

    `check` is called for every directory and may raise.
    """
    _Copy(target, check).directory(origin, target, b"")


class _Copy:
    """One run; `path` is from the top."""

    def __init__(self, top: int, check: Callable[[], None]) -> None:
        self._top = top
        self._check = check
        self._links: dict[tuple[int, int], bytes] = {}

    def directory(self, origin: int, target: int, path: bytes) -> None:
        self._check()
        with os.scandir(origin) as entries:
            names = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in names:
            below = path + b"/" + name if path else name
            if is_directory:
                inner = os.open(name, _DIRECTORY, dir_fd=origin)
                try:
                    os.mkdir(name, 0o700, dir_fd=target)
                    made = os.open(name, _DIRECTORY, dir_fd=target)
                    try:
                        self.directory(inner, made, below)
                    finally:
                        os.close(made)
                finally:
                    os.close(inner)
            else:
                self._other(origin, target, name, below)
        status = os.fstat(origin)
        _dress(origin, target, status)

    def _other(self, origin: int, target: int, name: bytes, path: bytes) -> None:
        status = os.stat(name, dir_fd=origin, follow_symlinks=False)
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, target, name)
                return
        copy_node(origin, name, target, name, status)

    def _link(self, first: bytes, target: int, name: bytes) -> None:
        """A second name of what was copied: opened part by part, since nobody says how long the path is."""
        *above, base = first.split(b"/")
        directory = os.dup(self._top)
        try:
            for part in above:
                inner = os.open(part, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inner
            os.link(base, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(directory)


def copy_node(origin: int, name: bytes, target: int, copy: bytes, status: os.stat_result) -> None:
    """Copy what is no directory, from the directory `origin` (an fd) to `copy` in the directory `target`. OSError."""
    if stat.S_ISREG(status.st_mode):
        old = os.open(name, _OLD, dir_fd=origin)
        try:
            new = os.open(copy, _NEW, 0o600, dir_fd=target)
            try:
                _content(old, new, status.st_size)
                _dress(old, new, status)
            finally:
                os.close(new)
        finally:
            os.close(old)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=origin), copy, dir_fd=target)
    elif stat.S_ISSOCK(status.st_mode):
        return  # whoever listened does not listen to the copy
    else:
        os.mknod(copy, status.st_mode, status.st_rdev, dir_fd=target)
    if os.geteuid() == 0:
        os.chown(copy, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    before, after = (b"/proc/self/fd/%d/%s" % pair for pair in ((origin, name), (target, copy)))
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(after, stat.S_IMODE(status.st_mode))
    for attribute in os.listxattr(before, follow_symlinks=False):
        value = os.getxattr(before, attribute, follow_symlinks=False)
        os.setxattr(after, attribute, value, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(copy, ns=times, dir_fd=target, follow_symlinks=False)


def _dress(old: int, new: int, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.chown(new, status.st_uid, status.st_gid)
    os.chmod(new, stat.S_IMODE(status.st_mode))
    for attribute in os.listxattr(old):
        os.setxattr(new, attribute, os.getxattr(old, attribute))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def _content(old: int, new: int, size: int) -> None:
    """The bytes, holes left out."""
    position = 0
    os.ftruncate(new, size)
    while position < size:
        try:
            begin = os.lseek(old, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            raise
        end = os.lseek(old, begin, os.SEEK_HOLE)
        while begin < end:
            done = os.copy_file_range(old, new, min(end - begin, _PIECE), begin, begin)
            if not done:
                return  # cut short meanwhile
            begin += done
        position = end
