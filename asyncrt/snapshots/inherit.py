"""What a layer leaves unsaid: a directory that lies on the way to its files, but that it has no entry for.

The tar of `a/b/file` alone says nothing about `a` and `a/b`. They are what the layers below have made them; unpacked
apart from those they would be new, and overlayfs shows the upper directory's owner, mode, xattrs and time.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from shimd.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_MOVES = 1000  # of one layer: a ring of symlinks would go on for ever
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def inherit(tree: str, implicit: Sequence[bytes], below: Sequence[str]) -> None:
    """Give the directories `implicit` of `tree` what the topmost of `below` says of them. OSError.

    Nothing is taken from behind a whiteout, an opaque directory, or a file. Where the layers below have a symlink the
    directory was on the way through it (`lib/x`, where lib is usr/lib): what is in it goes where the symlink leads, as
    if the layer had been unpacked over the others. ELOOP: through too many.
    """
    layers = [os.open(layer, _DIRECTORY) for layer in below]
    top = os.open(tree, _DIRECTORY)
    try:
        waiting = sorted(implicit, reverse=True)
        moves = 0
        while waiting:
            path = waiting.pop()
            target = openat2(top, os.fsdecode(path) or ".", _DIRECTORY, 0, _PLAIN)
            try:
                link = None if hidden(top, path) else _inherit(target, path, layers)
            finally:
                os.close(target)
            if link is None:
                continue
            moves += 1
            if moves > _MOST_MOVES:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            meant = _meant(path, link)
            made = _move(top, path, meant)
            inner = [other for other in waiting if other.startswith(path + b"/")]
            moved = [meant + other[len(path) :] if meant else other[len(path) + 1 :] for other in inner]
            waiting = sorted({*waiting, *moved, *made} - {*inner}, reverse=True)
    finally:
        for fd in (top, *layers):
            os.close(fd)


def _inherit(target: int, path: bytes, layers: Sequence[int]) -> bytes | None:
    """Take over what the topmost layer says of a directory; if it says a symlink, where that leads."""
    for layer in layers:
        try:
            origin = openat2(layer, os.fsdecode(path) or ".", _DIRECTORY, 0, _PLAIN)
        except FileNotFoundError:
            if hidden(layer, path):
                return None
            continue
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return _link(layer, path)
            raise
        try:
            _copy(origin, target)
        finally:
            os.close(origin)
        return None
    return None


def _link(layer: int, path: bytes) -> bytes | None:
    """Where the symlink `path` of a layer leads; None if it is something else."""
    try:
        found = openat2(layer, os.fsdecode(path), os.O_PATH | os.O_NOFOLLOW, 0, _PLAIN)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            return None  # something above it, which was looked at before
        raise
    try:
        return os.readlink(b"", dir_fd=found) if stat.S_ISLNK(os.fstat(found).st_mode) else None
    finally:
        os.close(found)


def _meant(path: bytes, link: bytes) -> bytes:
    """The path that a symlink at `path` means, from the tree's root, which `..` does not leave."""
    parts = [] if link.startswith(b"/") else path.split(b"/")[:-1]
    for part in link.split(b"/"):
        if part == b"..":
            parts = parts[:-1]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _move(top: int, path: bytes, meant: bytes) -> list[bytes]:
    """Move all that is in the tree's directory `path` to its `meant`; the directories that were made for that."""
    if meant == path or meant.startswith(path + b"/"):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    made = []
    parts = meant.split(b"/") if meant else []
    for length in range(1, len(parts) + 1):
        above = openat2(top, os.fsdecode(b"/".join(parts[: length - 1])) or ".", _DIRECTORY, 0, _PLAIN)
        try:
            os.mkdir(parts[length - 1], 0o755, dir_fd=above)
            made.append(b"/".join(parts[:length]))
        except FileExistsError:
            pass
        finally:
            os.close(above)
    origin = openat2(top, os.fsdecode(path), _DIRECTORY, 0, _PLAIN)
    try:
        target = openat2(top, os.fsdecode(meant) or ".", _DIRECTORY, 0, _PLAIN)
        try:
            _merge(origin, target)
        finally:
            os.close(target)
    finally:
        os.close(origin)
    above_path, _, name = path.rpartition(b"/")
    above = openat2(top, os.fsdecode(above_path) or ".", _DIRECTORY, 0, _PLAIN)
    try:
        os.rmdir(name, dir_fd=above)
    finally:
        os.close(above)
    return made


def _merge(origin: int, target: int) -> None:
    """Move the entries of one directory to another; directories of one name become one, else the moved one stays."""
    for name in os.listdir(origin):
        try:
            os.rename(name, name, src_dir_fd=origin, dst_dir_fd=target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            inner, outer = (os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd) for fd in (origin, target))
            try:
                _merge(inner, outer)
            finally:
                os.close(inner)
                os.close(outer)
            os.rmdir(name, dir_fd=origin)


def hidden(layer: int, path: bytes) -> bool:
    """Whether the layer hides what those below have at `path`: a directory above it, or it, is opaque."""
    parts = path.split(b"/") if path else []
    for length in range(len(parts), 0, -1):
        try:
            directory = openat2(layer, os.fsdecode(b"/".join(parts[:length])), _DIRECTORY, 0, _PLAIN)
        except OSError:
            continue
        try:
            if any(name in _OPAQUE for name in os.listxattr(directory)):
                return True
        finally:
            os.close(directory)
    return False


def _copy(origin: int, target: int) -> None:
    status = os.fstat(origin)
    if os.geteuid() == 0:
        os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(origin):
        if name not in _OPAQUE:
            os.setxattr(target, name, os.getxattr(origin, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
