"""Trees that a container filled: removed and measured on dirfds, whatever is in them.

A name in such a tree is hostile. It is never put into a longer path: each directory is opened from the fd of
its parent, with O_NOFOLLOW, and its entries are unlinked from its own fd. So a symlink is removed and never
followed, and no path is too long. Depth costs neither fds nor recursion: below MAX_DEPTH a subdirectory is
renamed up to the top and removed from there.

For trees that nobody uses any more: a process that still writes into one can make it fail (loudly), not
leave it. A mount in the tree is an error if it is of another file system. One of the same file system
cannot be told from a directory without a system call more a directory; nothing of the engine mounts below a
snapshot.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

MAX_DEPTH = 32  # fds held at once; nearly all real trees are shallower, and are removed without a rename
MAX_FAILURES = 100  # kept; the tree stays anyway
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Failure(NamedTuple):
    """What could not be removed, and why."""

    path: str
    cause: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.cause}"


def remove_tree(parent: int, name: str, where: str) -> list[Failure]:
    """Remove `name` of the directory `parent` (an fd) with all below it; what could not be removed.

    `where` is the path of `parent`, for the failures alone. A name that is not there is removed already.
    """
    removal = _Removal(where)
    try:
        top = _enter(parent, name)
    except FileNotFoundError:
        return []
    except OSError as error:
        removal.failed([name], error)
        return removal.failures
    try:
        removal.top, removal.device = top, os.fstat(top).st_dev
        removal.again = True
        while removal.again:
            removal.again = False
            removal.failures.clear()
            removal.empty(top, [name])
    finally:
        os.close(top)
    if not removal.failures:
        removal.unlink(parent, name, [], directory=True)
    return removal.failures


class _Removal:
    """One run of remove_tree. A `trail` is the names from the tree's own to the directory at hand."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.failures: list[Failure] = []
        self.device = 0
        self.top = -1
        self.again = False  # lifted directories lie in the top now, or a directory did not stay empty
        self._lifts = 0
        self._refills = 3

    def empty(self, directory: int, trail: list[str]) -> None:
        """Remove all that is in the directory; the recursion ends at MAX_DEPTH."""
        subdirectories = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        subdirectories.append(entry.name)
                    else:
                        self.unlink(directory, entry.name, trail, directory=False)
        except OSError as error:
            self.failed(trail, error)
        for name in subdirectories:
            if len(trail) >= MAX_DEPTH:
                self._lift(directory, name, trail)
            else:
                self._descend(directory, name, trail)

    def _descend(self, parent: int, name: str, trail: list[str]) -> None:
        inner = [*trail, name]
        before = len(self.failures)
        try:
            directory = _enter(parent, name)
        except OSError as error:
            self.failed(inner, error)
            return
        try:
            if os.fstat(directory).st_dev != self.device:
                self.failed(inner, OSError(errno.EXDEV, "another file system is mounted there"))
                return
            self.empty(directory, inner)
        finally:
            os.close(directory)
        if len(self.failures) == before:
            self.unlink(parent, name, trail, directory=True)

    def _lift(self, parent: int, name: str, trail: list[str]) -> None:
        """Rename a directory up to the top, under a name of ours."""
        try:
            while True:
                self._lifts += 1
                free = f"lifted.{self._lifts}"
                try:
                    os.rename(name, free, src_dir_fd=parent, dst_dir_fd=self.top)
                    break
                except OSError as error:
                    # A container, or a run before this one, may have made that very name.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
            self.again = True
        except OSError as error:
            self.failed([*trail, name], error)

    def unlink(self, parent: int, name: str, trail: list[str], directory: bool) -> None:
        """Remove one entry: a file, or a directory that was emptied."""
        try:
            if directory:
                os.rmdir(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            # readdir(3) may pass over entries while others are unlinked; how often is bounded.
            if error.errno == errno.ENOTEMPTY and self._refills:
                self._refills -= 1
                self.again = True
            self.failed([*trail, name], error)

    def failed(self, trail: list[str], error: OSError) -> None:
        """Keep a failure; `trail` leads from the tree's name to the entry."""
        if len(self.failures) < MAX_FAILURES:
            hint = ""
            if error.errno == errno.EPERM:
                hint = "an immutable file? lsattr -d tells, chattr -i mends"
            elif error.errno == errno.EBUSY:
                hint = "something is mounted there: unmount it"
            path = "/".join((self.where, *trail))
            self.failures.append(Failure(path, str(error.strerror).lower(), hint))


def _enter(parent: int, name: str) -> int:
    """Open a directory to empty it. One that denies that to its owner (mode 000, 0555) is opened up first.

    Root is not denied it; overlayfs leaves a work/work of mode 000 all the same, and others remove trees as
    well.
    """
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            # chmod(2) knows no AT_SYMLINK_NOFOLLOW; through /proc it is on the very inode that was opened.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        finally:
            os.close(handle)
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    if os.geteuid() != 0 and os.fstat(directory).st_mode & 0o700 != 0o700:
        os.fchmod(directory, 0o700)
    return directory


def count_tree(parent: int, name: str) -> tuple[int, int, bool]:
    """(bytes on disk, inodes, whether all was seen) of a directory and all below it, down to MAX_DEPTH.

    Also for a tree in use: what vanishes meanwhile is not counted. OSError if the directory cannot be opened.
    """
    links: set[tuple[int, int]] = set()

    def count(directory: int, depth: int) -> tuple[int, int, bool]:
        size, inodes, complete = os.fstat(directory).st_blocks * 512, 1, True
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if depth >= MAX_DEPTH:
                            complete = False
                            continue
                        child = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                        try:
                            below = count(child, depth + 1)
                        finally:
                            os.close(child)
                        size, inodes, complete = size + below[0], inodes + below[1], complete and below[2]
                        continue
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    complete = False
                    continue
                if status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in links:
                        continue
                    links.add((status.st_dev, status.st_ino))
                size, inodes = size + status.st_blocks * 512, inodes + 1
        return size, inodes, complete

    top = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        return count(top, 1)
    finally:
        os.close(top)
