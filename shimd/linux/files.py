"""What os has no wrapper for about open files: holes (fallocate(2))."""

import os

from shimd.linux.libc import INT, LONG, check, function

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02

_fallocate = function("fallocate", INT, INT, LONG, LONG)


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give a range's space back; it reads as zeros, and the file's size stays. EOPNOTSUPP: not on this file system."""
    check(_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length), os.fsdecode(f"fd {fd}"))
