"""What a layer has of those below it: hardlinks to files that only they have.

On a mount of all layers link(2) would copy the file up and give it two names. Layers are unpacked apart from each
other, so the extractor leaves a placeholder for each such name, a socket, which no tar can make; here, once the layers
below are there, the file is copied up under its own path, and the placeholder becomes one more name of the copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from asyncrt.errors import BadImage, shown
from asyncrt.snapshots.copying import copy_node
from asyncrt.snapshots.inherit import hidden
from shimd.linux.paths import (
    MOST_LINKS,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    open_in_root,
    openat2,
)

MOST_BYTES = 4 << 30  # of one layer: a hundred small layers of links could fill a disk with copies of one large file
_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def borrow(tree: str, borrowed: Sequence[tuple[bytes, bytes]], below: Sequence[str]) -> list[bytes]:
    """Replace the placeholders of `tree`: (name, what it is a hardlink to), in the order of the layer.

    The answer are the directories that were made on the way, which have nobody's metadata yet. BadImage: a target is in
    no layer, or is taken away by this one. OSError.
    """
    layers = [os.open(layer, _DIRECTORY) for layer in below]
    top = os.open(tree, _DIRECTORY)
    try:
        lender = _Lender(top, layers)
        # The last first: what an earlier entry put there, by another path to the same place, is replaced by then.
        for name, target in reversed(borrowed):
            lender.fill(name, target)
        return lender.made
    finally:
        for fd in (top, *layers):
            os.close(fd)


class _Lender:
    """One layer's placeholders."""

    def __init__(self, top: int, layers: Sequence[int]) -> None:
        self._top = top
        self._layers = layers
        self._copies: dict[bytes, bytes] = {}  # target -> the name that has it now
        self._left = MOST_BYTES
        self.made: list[bytes] = []

    def fill(self, name: bytes, target: bytes) -> None:
        above, _, base = name.rpartition(b"/")
        with _opened(self._top, above) as directory:
            status = os.stat(base, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISSOCK(status.st_mode):
                return  # a later entry has the name
            with _times_kept(directory):
                os.unlink(base, dir_fd=directory)
                if target in self._copies:
                    above, _, first = self._copies[target].rpartition(b"/")
                    with _opened(self._top, above) as origin:
                        os.link(first, base, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)
                    return
                found, path = self._lower(target)
                try:
                    self._copy(found, path, directory, base, target)
                finally:
                    os.close(found)
            self._link_back(directory, base, path)
        self._copies[target] = name

    def _copy(self, layer: int, path: bytes, directory: int, base: bytes, target: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        origin = openat2(layer, os.fsdecode(above) or ".", _DIRECTORY, 0, _PLAIN)
        try:
            status = os.stat(name, dir_fd=origin, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise _refused(target, "is a directory")
            self._left -= status.st_blocks * 512
            if self._left < 0:
                raise BadImage(
                    "commit layer", shown(os.fsdecode(target)), "its links copy too much of others", "a bomb?"
                )
            copy_node(origin, name, directory, base, status)
        finally:
            os.close(origin)

    def _link_back(self, directory: int, base: bytes, path: bytes) -> None:
        """The copy's first name, where the layer has nothing else in its place."""
        *above, own = path.split(b"/")
        here = os.open(".", _DIRECTORY, dir_fd=self._top)
        try:
            for length, part in enumerate(above, 1):
                try:
                    inner = openat2(here, os.fsdecode(part), _DIRECTORY, 0, _PLAIN)
                except FileNotFoundError:
                    with _times_kept(here):
                        os.mkdir(part, 0o755, dir_fd=here)
                    self.made.append(b"/".join(above[:length]))
                    inner = openat2(here, os.fsdecode(part), _DIRECTORY, 0, _PLAIN)
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        return
                    raise
                os.close(here)
                here = inner
            with _times_kept(here), contextlib.suppress(FileExistsError):
                os.link(base, own, src_dir_fd=directory, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(here)

    def _lower(self, target: bytes) -> tuple[int, bytes]:
        """The layer below that shows `target`, as an fd, and the target's path there without symlinks."""
        waiting, done, links = target.split(b"/"), list[bytes](), 0
        while waiting:
            part = waiting.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                done = done[:-1]
                continue
            path = b"/".join((*done, part))
            layer, mode = self._shown(path, target)
            if not stat.S_ISLNK(mode) or not waiting:
                if not waiting:
                    return os.dup(layer), path
                if not stat.S_ISDIR(mode):
                    break
                done.append(part)
                continue
            links += 1
            if links > MOST_LINKS:
                raise BadImage("commit layer", shown(os.fsdecode(target)), "its path goes through too many symlinks")
            found = openat2(layer, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, 0, _PLAIN)
            try:
                link = os.readlink(b"", dir_fd=found)
            finally:
                os.close(found)
            done = [] if link.startswith(b"/") else done
            waiting = [*link.split(b"/"), *waiting]
        raise _refused(target, "is in no layer below")

    def _shown(self, path: bytes, target: bytes) -> tuple[int, int]:
        """The topmost layer that says what `path` is, and its mode there."""
        if hidden(self._top, path.rpartition(b"/")[0]) or _is_whiteout(self._top, path):
            raise _refused(target, "is taken away by this layer")
        above = path.rpartition(b"/")[0]
        for layer in self._layers:
            try:
                found = openat2(layer, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, 0, _PLAIN)
            except FileNotFoundError:
                if hidden(layer, above):
                    break
                continue
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    break
                raise
            try:
                status = os.fstat(found)
            finally:
                os.close(found)
            if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                break
            return layer, status.st_mode
        raise _refused(target, "is in no layer below")


def _is_whiteout(layer: int, path: bytes) -> bool:
    try:
        found = openat2(layer, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, 0, _PLAIN)
    except OSError:
        return False
    try:
        status = os.fstat(found)
        return stat.S_ISCHR(status.st_mode) and not status.st_rdev
    finally:
        os.close(found)


@contextlib.contextmanager
def _opened(top: int, path: bytes) -> Iterator[int]:
    """A directory of the tree, symlinks of the same tree followed, as the extractor does."""
    directory = open_in_root(top, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield directory
    finally:
        os.close(directory)


@contextlib.contextmanager
def _times_kept(directory: int) -> Iterator[None]:
    """The layer has said the directory's times already."""
    status = os.fstat(directory)
    try:
        yield
    finally:
        os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


def _refused(target: bytes, why: str) -> BadImage:
    return BadImage("commit layer", "", f'it has a hardlink to "{shown(os.fsdecode(target))}", which {why}')
