"""How much of everything a layer may have: what a hostile one would use up first, in one value."""

from __future__ import annotations

from typing import NamedTuple

PATH_MAX = 4096  # limits.h, the NUL counted: what the kernel takes in one call


class Limits(NamedTuple):
    """The caps of one layer; the defaults are far above what real images have.

    `ratio` (uncompressed to compressed) is asked from `ratio_from` bytes on: gzip cannot go beyond 1032, and an honest
    layer gets near that with zeros only. `special` is the size of a pax header or long name, as Go's reader has it.
    """

    tar_bytes: int = 1 << 40  # uncompressed
    ratio: int = 200
    ratio_from: int = 1 << 30
    entries: int = 5_000_000
    file_bytes: int = 1 << 44  # of one file, holes counted
    depth: int = 256
    path: int = PATH_MAX - 1
    special: int = 1 << 20
    sparse_pieces: int = 1 << 20
    xattr_bytes: int = 1 << 17


DEFAULT = Limits()
