"""One member of a tar, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asyncrt.layers.sparse import Sparse

FILE, HARDLINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

NO_XATTRS: Mapping[bytes, bytes] = {}


class Entry(NamedTuple):
    """`name` and, of a hardlink, `link` are relative, without `.`, `..` or empty parts; b"" is the tree's root.

    `stored` is the number of bytes that follow in the tar; of a file without `sparse` it is the size. Times in ns.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    stored: int
    mtime_ns: int
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = NO_XATTRS
    sparse: Sparse | None = None
    atime_ns: int | None = None
