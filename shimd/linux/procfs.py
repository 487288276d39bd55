"""The machine's own procfs, and proof that it is (statfs(2), openat2(2)).

Whoever mounts over /proc, or over a file in it, would catch what is written there: a label would be "set" in a tmpfs
(CVE-2019-19921, 2025-52881). So /proc is opened once, judged by its magic number and its root's inode, and files are
opened on that fd without a way through another mount.
"""

from __future__ import annotations

import ctypes
import errno
import os

from shimd.linux import paths
from shimd.linux.libc import INT, POINTER, check, function

MAGIC = 0x9FA0  # PROC_SUPER_MAGIC
ROOT_INODE = 1  # PROC_ROOT_INO
STATFS_BYTES = 256  # struct statfs has 120; f_type is its first word

_fstatfs = function("fstatfs", INT, POINTER)


def file_system(fd: int) -> int:
    """The magic number of the file system that fd is on (fstatfs(2))."""
    buffer = ctypes.create_string_buffer(STATFS_BYTES)
    check(_fstatfs(fd, buffer), f"fd {fd}")
    return ctypes.c_long.from_buffer(buffer).value


def open_root(path: str = "/proc") -> int:
    """An O_PATH fd on procfs; OSError if what is there is something else."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if file_system(fd) != MAGIC or os.fstat(fd).st_ino != ROOT_INODE:
        os.close(fd)
        raise OSError(errno.EXDEV, "it is not the root of a procfs", path)
    return fd


def write(path: str, text: str) -> None:
    """Write to a file below /proc, "self/attr/exec" for one."""
    root = open_root()
    try:
        resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_XDEV | paths.RESOLVE_NO_MAGICLINKS
        fd = paths.openat2(root, path, os.O_WRONLY, 0, resolve)
    finally:
        os.close(root)
    try:
        os.write(fd, os.fsencode(text))
    finally:
        os.close(fd)
