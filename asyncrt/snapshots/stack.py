"""Layers as overlayfs merges them, looked at without a mount: on dirfds, from the top down.

    with stacked(fds) as root:              # fds of the layers' directories, the top first; they stay the caller's
        root.look(b"etc")                   # (fd of the directory that has it, lstat) or None
        inner = root.enter(b"etc")          # a Level, or None for what is no directory; close it

What is asked: what an upper directory changed, what an image has at a path, what a container's tree is as a whole. A
mount would do for none of these while the container runs (overlayfs.rst, "Changes to underlying filesystems"), and
costs more than a few names. Whiteouts and opaque directories as in overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"
MOST_LINKS = 40  # path_resolution(7)


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it is overlayfs's mark that a name is gone."""
    return stat.S_ISCHR(status.st_mode) and not status.st_rdev


def is_opaque(directory: int) -> bool:
    """Whether a layer's directory hides what the layers below have in it."""
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise


class Level:
    """One directory of the merged tree: `fds` are those of the layers that have it, the top first."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def look(self, name: bytes) -> tuple[int, os.stat_result] | None:
        """(the layer's directory that has the name, what it is there), nothing followed; None: no such name."""
        for fd in self.fds:
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            return None if is_whiteout(status) else (fd, status)
        return None

    def enter(self, name: bytes) -> Level | None:
        """The directory of that name, merged; None if there is none. The caller closes it."""
        found: list[int] = []
        try:
            for fd in self.fds:
                try:
                    inner = os.open(name, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        break  # something else: it hides what is below
                    raise
                found.append(inner)
                if is_opaque(inner):
                    break
        except BaseException:
            Level(found).close()
            raise
        return Level(found) if found else None

    def names(self) -> list[bytes]:
        """Every name in it, in the order of their bytes."""
        found: set[bytes] = set()
        hidden: set[bytes] = set()
        for fd in self.fds:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if name in found or name in hidden:
                        continue
                    usual = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
                    if not (usual or entry.is_symlink()) and is_whiteout(entry.stat(follow_symlinks=False)):
                        hidden.add(name)
                    else:
                        found.add(name)
        return sorted(found)

    def above(self, path: bytes) -> Level:
        """A copy of its own, for who goes on from here; `path` is for the error alone."""
        copies: list[int] = []
        try:
            for fd in self.fds:
                copies.append(os.dup(fd))
        except OSError as error:
            Level(copies).close()
            raise OSError(error.errno, error.strerror, path) from None
        return Level(copies)


@contextmanager
def stacked(roots: Sequence[int]) -> Iterator[Level]:
    """The merged root of the layers whose directories these fds are."""
    level = Level([os.dup(fd) for fd in roots])
    try:
        yield level
    finally:
        level.close()


def find(root: Level, path: bytes) -> Level | None:
    """The directory `path` of the merged tree, symlinks followed as if its root were /; None: it is none, or not there.

    `..` does not leave the root. OSError ELOOP: too many symlinks. The caller closes it.
    """
    level, name = _walk(root, path)
    if name is None:
        return level
    level.close()
    return None


def open_file(root: Level, path: bytes, flags: int) -> int:
    """An fd on what is no directory at `path`, as find(). FileNotFoundError, and what open(2) says."""
    level, name = _walk(root, path)
    try:
        found = level.look(name) if name else None
        if name is None or found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=found[0])
    finally:
        level.close()


def _walk(root: Level, path: bytes) -> tuple[Level, bytes | None]:
    """As far as directories lead: (the last one, None), or (the one before, the name that is no directory in it).

    Of a name with more behind it, which is no directory, the name is b"": nothing can be found there.
    """
    links = MOST_LINKS
    waiting = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    walked = [root.above(b"/")]
    try:
        while waiting:
            part = waiting.pop()
            if part == b"..":
                if len(walked) > 1:
                    walked.pop().close()
                continue
            found = walked[-1].look(part)
            if found is not None and stat.S_ISLNK(found[1].st_mode):
                links -= 1
                if links < 0:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(part, dir_fd=found[0])
                if target.startswith(b"/"):
                    while len(walked) > 1:
                        walked.pop().close()
                waiting += [piece for piece in reversed(target.split(b"/")) if piece not in (b"", b".")]
                continue
            inner = walked[-1].enter(part)
            if inner is None:
                return walked.pop(), (b"" if waiting else part)
            walked.append(inner)
        return walked.pop(), None
    finally:
        for level in walked:
            level.close()
