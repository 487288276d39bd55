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
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def inherit(tree: str, implicit: Sequence[bytes], below: Sequence[str]) -> None:
    """Give the directories `implicit` of `tree` what the topmost of `below` says of them. OSError.

    Nothing is taken from behind a whiteout, an opaque directory, or what is no directory.
    """
    layers = [os.open(layer, _DIRECTORY) for layer in below]
    top = os.open(tree, _DIRECTORY)
    try:
        for path in sorted(implicit):
            target = openat2(top, os.fsdecode(path) or ".", _DIRECTORY, 0, _PLAIN)
            try:
                if not _hidden(top, path):
                    _inherit(target, path, layers)
            finally:
                os.close(target)
    finally:
        for fd in (top, *layers):
            os.close(fd)


def _inherit(target: int, path: bytes, layers: Sequence[int]) -> None:
    for layer in layers:
        try:
            origin = openat2(layer, os.fsdecode(path) or ".", _DIRECTORY, 0, _PLAIN)
        except FileNotFoundError:
            if _hidden(layer, path):
                return
            continue
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                return  # a file, a whiteout or a symlink: nothing below it is meant
            raise
        try:
            _copy(origin, target)
        finally:
            os.close(origin)
        return


def _hidden(layer: int, path: bytes) -> bool:
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
