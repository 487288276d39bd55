"""What a file system has not given to its disk yet."""

import ctypes
import os

# Not libc.function(): that keeps the interpreter lock, and this call lasts as long as the disk needs.
_syncfs = ctypes.CDLL(None, use_errno=True).syncfs
_syncfs.argtypes = (ctypes.c_int,)


def syncfs(fd: int) -> None:
    """syncfs(2): all that the file system of `fd` holds back is on its disk after this."""
    if _syncfs(fd) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
