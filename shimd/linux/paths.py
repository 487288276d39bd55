"""Paths that cannot leave a root: openat2(2), then work on the fd.

The one module for path safety: everything that resolves a path which a container or an image controls comes through
here, once, and goes on with the fd (CVE-2021-30465, 2024-45310, 2026-41579: a string resolved twice is a race).
"""

from __future__ import annotations

import ctypes
import errno
import os

from shimd.linux.libc import INT, POINTER, SIZE, STRING, check, syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

MOST_LINKS = 40  # as the kernel follows in one path (path_resolution(7))

_openat2 = syscall("openat2", INT, STRING, POINTER, SIZE)


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def openat2(directory: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """openat2(2); the fd is close-on-exec. EXDEV: it would leave the root. EAGAIN (a rename raced): tried again."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    encoded = os.fsencode(path)
    while True:
        try:
            return check(_openat2(directory, encoded, ctypes.byref(how), ctypes.sizeof(how)), path)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise


def open_in_root(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """An fd on what `path` means inside the directory `root`, symlinks followed as if root were /."""
    return openat2(root, path.lstrip("/") or ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def make_directory_in_root(root: int, path: str, mode: int = 0o755, links: int = MOST_LINKS) -> int:
    """Like mkdir -p inside root; an O_PATH fd on the last directory.

    Each component is made on the fd of the one before and then opened in the root, so that a symlink in the image
    is followed inside it and one that appears meanwhile is not followed out of it. Where one leads to nothing, what it
    means is made, `links` times at most.
    """
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    parent, _, name = path.strip("/").rpartition("/")
    directory = make_directory_in_root(root, parent, mode, links) if parent else os.dup(root)
    try:
        try:
            os.mkdir(name, mode, dir_fd=directory)
        except FileExistsError:  # a dangling symlink, or somebody was faster; the open below tells
            pass
        try:
            return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            meant = _meant(directory, parent, name, links)
        return make_directory_in_root(root, meant, mode, links - 1)
    finally:
        os.close(directory)


def make_file_in_root(root: int, path: str, mode: int = 0o644, links: int = MOST_LINKS) -> int:
    """An O_PATH fd on a file inside root, made empty (with its directories) if it is not there."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        pass
    parent, _, name = path.strip("/").rpartition("/")
    directory = make_directory_in_root(root, parent, links=links) if parent else os.dup(root)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, mode, dir_fd=directory))
        except FileExistsError:
            return make_file_in_root(root, _meant(directory, parent, name, links), mode, links - 1)
        return openat2(directory, name, os.O_PATH | os.O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS)
    finally:
        os.close(directory)


def _meant(directory: int, parent: str, name: str, links: int) -> str:
    """The path, from the root on, that the symlink `name` in `directory` means; EINVAL if it is none."""
    if not links:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    target = os.readlink(name, dir_fd=directory)
    return target if target.startswith("/") else f"{parent}/{target}"
