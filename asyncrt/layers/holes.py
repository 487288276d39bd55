"""Where a file has bytes and where holes, as far as it is worth a sparse entry."""

from __future__ import annotations

import errno
import os

from asyncrt.layers.sparse import Sparse

WORTH = 1 << 16  # bytes of holes from which on a file is written as a sparse one
_MOST_PIECES = 10_000  # a file in more is written whole: zeros compress well


def pieces(file: int, status: os.stat_result) -> Sparse | None:
    """The pieces of a file (an fd) that has holes; None if it is to be written whole."""
    size = status.st_size
    if size - status.st_blocks * 512 < WORTH:
        return None
    found: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            begin = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # a hole up to the end
            raise
        position = min(os.lseek(file, begin, os.SEEK_HOLE), size)
        found.append((begin, position - begin))
        if len(found) > _MOST_PIECES:
            return None
    if size - sum(length for _, length in found) < WORTH:
        return None
    if not found or sum(found[-1]) != size:
        found.append((size, 0))  # as GNU tar ends it: some readers take the last piece for the end
    return Sparse(size, tuple(found))
