"""A tar to entries: ustar, pax (local and global), GNU's long names and sparse files. Nothing is trusted.

    reader = Reader(feed)
    for entry in reader:
        for view in reader.content(): ...     # entry.stored bytes; what is not read is passed over

Where readers of tars differ, a tar can say one thing to each (CVE-2025-62518), so here: a header has a right checksum
or the layer is refused; links, devices, directories and fifos have no bytes behind them, whatever their size field
says (Go's reader, so every other engine's); types that nobody agrees on are refused; a global pax header may set times
and owners, not names and sizes (Go's reader ignores it, GNU tar's does not). The stream may end after the last entry or
with the blocks of zeros that POSIX wants; what follows these is passed over.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from asyncrt.errors import BadImage
from asyncrt.layers import sparse
from asyncrt.layers.entry import DIRECTORY, FILE, HARDLINK, NO_XATTRS, SYMLINK, Entry
from asyncrt.layers.feed import Feed, truncated
from asyncrt.layers.limits import DEFAULT, Limits
from asyncrt.layers.numbers import (
    bounded_time,
    cached_number,
    decimal,
    malformed,
    number,
    records,
    time_ns,
    xattr,
)

BLOCK = 512
# name mode uid gid size mtime checksum type link magic+version (owner names passed over) major minor prefix
_unpack = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x").unpack
_ZEROS = bytes(BLOCK)
_GNU = b"ustar  \0"  # its prefix field holds other things
_KINDS = {kind: kind for kind in (b"0", b"1", b"2", b"3", b"4", b"5", b"6")} | {b"\0": FILE, b"7": FILE, b"S": FILE}
_GLOBALS = {b"comment", b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"charset", b"hdrcharset"}
_MAX_ID = (1 << 32) - 2  # 4294967295 is -1: chown(2) would leave the owner as it is


class Reader:
    """The entries of one feed, in order. BadImage: what is no tar, or one that is not to be trusted."""

    def __init__(self, feed: Feed, limits: Limits = DEFAULT) -> None:
        self._feed = feed
        self._limits = limits
        self._left = 0  # bytes of the entry at hand that nobody has read
        self._padding = 0
        self.entries = 0

    def content(self) -> Iterator[memoryview]:
        """The bytes of the entry at hand as views, each good until the next is asked for."""
        left, self._left = self._left, 0
        return self._feed.pieces(left)

    def part(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes of the entry at hand, as content(): the pieces of a sparse file, one by one."""
        self._left -= count
        return self._feed.pieces(count)

    def small(self) -> bytes:
        """The bytes of the entry at hand in one piece: for those that are known to be few."""
        left, self._left = self._left, 0
        return self._feed.take(left) if left else b""

    def __iter__(self) -> Iterator[Entry]:
        feed, limits = self._feed, self._limits
        global_records: dict[bytes, bytes] = {}
        while True:
            extended: dict[bytes, bytes] = {}
            long_name = long_link = None
            pieces: list[bytes] = []
            xattrs: dict[bytes, bytes] = {}
            while True:  # the headers of one entry
                if self._left or self._padding:
                    feed.skip(self._left + self._padding)
                    self._left = self._padding = 0
                header = feed.take(BLOCK)
                if not header or header == _ZEROS:
                    if extended or xattrs or long_name or long_link:
                        raise truncated("the stream ends behind a pax header or long name")
                    self._end(header)
                    return
                fields = _unpack(header)
                _check(header, fields[6])
                kind = fields[7]
                if kind in _KINDS:
                    break
                data = self._special(kind, number(fields[4]))
                if kind == b"x":
                    self._records(data, extended, xattrs, pieces)
                elif kind == b"g":
                    global_records.update(_global(data))
                elif kind == b"L":
                    long_name = data.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = data.partition(b"\0")[0]
            self.entries += 1
            if self.entries > limits.entries:
                raise BadImage("read layer", "", f"it has more than {limits.entries} entries", "a bomb?")
            plain = not (extended or xattrs or global_records or long_name or long_link)
            if plain and kind != b"S":
                entry = self._plain(fields, kind)
            else:
                extended = {**global_records, **extended}
                if long_name is not None:
                    extended.setdefault(b"path", long_name)
                if long_link is not None:
                    extended.setdefault(b"linkpath", long_link)
                entry = self._extended(header, fields, extended, xattrs, pieces)
            yield entry

    def _end(self, header: bytes) -> None:
        """The end of the archive: nothing, or two blocks of zeros, or one at the very end."""
        if header:
            second = self._feed.take(BLOCK)
            if second and second != _ZEROS:
                raise malformed("a block of zeros in the middle of the layer")

    def _special(self, kind: bytes, size: int) -> bytes:
        if kind == b"V":  # a label; GNU tar passes over it
            self._left, self._padding = size, -size % BLOCK
            if size < 0:
                raise malformed("an entry of negative size")
            return b""
        if kind not in (b"x", b"g", b"L", b"K"):
            raise malformed(f"an entry of the unknown type {kind!r}")
        if not 0 <= size <= self._limits.special:
            raise malformed(f"a pax header or long name of {size} bytes")
        data = self._feed.take(size) if size else b""
        if size and not data:
            raise truncated()
        self._padding = -size % BLOCK
        return data

    def _records(
        self, data: bytes, extended: dict[bytes, bytes], xattrs: dict[bytes, bytes], pieces: list[bytes]
    ) -> None:
        for key, value in records(data):
            attribute = xattr(key, value)
            if attribute:
                xattrs[attribute[0]] = attribute[1]
            elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                # They come in turns, offset first: two of one kind would pair what does not belong together.
                if (key == b"GNU.sparse.offset") != (len(pieces) % 2 == 0):
                    raise malformed("a sparse file with half a piece")
                pieces.append(value)
            else:
                extended[key] = value
        if sum(map(len, xattrs.values())) > self._limits.xattr_bytes:
            raise malformed("more extended attributes than a file can have")

    def _plain(self, fields: tuple[bytes, ...], kind: bytes) -> Entry:
        """The entry of a header that stands alone: nearly all are."""
        name = fields[0].partition(b"\0")[0]
        if fields[9] != _GNU and fields[12][0] and fields[9][:5] == b"ustar":
            name = fields[12].partition(b"\0")[0] + b"/" + name
        mode, uid, gid, mtime = map(cached_number, (fields[1], fields[2], fields[3], fields[5]))
        return self._entry(fields, kind, name, None, mode, uid, gid, number(fields[4]), mtime * 10**9)

    def _extended(
        self,
        header: bytes,
        fields: tuple[bytes, ...],
        extended: dict[bytes, bytes],
        xattrs: dict[bytes, bytes],
        pieces: list[bytes],
    ) -> Entry:
        """The entry of a header with pax records or long names before it."""
        kind, get = fields[7], extended.get
        size = number(fields[4]) if b"size" not in extended else decimal(extended[b"size"], "size")
        uid = cached_number(fields[2]) if b"uid" not in extended else decimal(extended[b"uid"], "owner")
        gid = cached_number(fields[3]) if b"gid" not in extended else decimal(extended[b"gid"], "group")
        mtime = number(fields[5]) * 10**9 if b"mtime" not in extended else time_ns(extended[b"mtime"])
        name = get(b"GNU.sparse.name") or get(b"path")
        if name is None:
            name = fields[0].partition(b"\0")[0]
            if fields[9] != _GNU and fields[12][0] and fields[9][:5] == b"ustar":
                name = fields[12].partition(b"\0")[0] + b"/" + name
        entry = self._entry(
            fields,
            kind,
            name,
            get(b"linkpath"),
            cached_number(fields[1]),
            uid,
            gid,
            size,
            mtime,
            extended,
            pieces,
            header,
        )
        atime = time_ns(extended[b"atime"]) if b"atime" in extended else None
        return entry._replace(xattrs=xattrs or NO_XATTRS, atime_ns=atime)

    def _entry(
        self,
        fields: tuple[bytes, ...],
        kind: bytes,
        name: bytes,
        link: bytes | None,
        mode: int,
        uid: int,
        gid: int,
        size: int,
        mtime: int,
        extended: dict[bytes, bytes] | None = None,
        pieces: list[bytes] | None = None,
        header: bytes = b"",
    ) -> Entry:
        limits = self._limits
        if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
            raise malformed(f"an entry of owner {uid}:{gid}")
        if not -(1 << 33) < mtime // 10**9 < 1 << 33:
            mtime = bounded_time(mtime)
        mode &= 0o7777
        if _KINDS[kind] == FILE:
            if not 0 <= size <= limits.file_bytes:
                raise malformed(f"a file of {size} bytes")
            if name.endswith(b"/") and kind != b"S":  # before POSIX had a type for directories
                self._left, self._padding = size, -size % BLOCK
                return Entry(clean(name, limits), DIRECTORY, mode, uid, gid, 0, mtime)
            self._left, self._padding = size, -size % BLOCK
            found = None
            if kind == b"S":
                found = sparse.old(header, self._feed, size, limits)
            elif extended and (b"GNU.sparse.major" in extended or b"GNU.sparse.size" in extended):
                found = self._sparse(extended, pieces or [])
            return Entry(clean(name, limits), FILE, mode, uid, gid, self._left, mtime, sparse=found)
        if kind in (HARDLINK, SYMLINK):
            target = fields[8].partition(b"\0")[0] if link is None else link
            if not target or b"\0" in target or len(target) > limits.path:
                raise malformed("a link that leads nowhere, or too far")
            target = clean(target, limits) if kind == HARDLINK else target
            return Entry(clean(name, limits), kind, mode, uid, gid, 0, mtime, target)
        major, minor = (number(fields[10]), number(fields[11])) if kind in (b"3", b"4") else (0, 0)
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise malformed(f"a device {major}:{minor}")
        return Entry(clean(name, limits), kind, mode, uid, gid, 0, mtime, b"", major, minor)

    def _sparse(self, extended: dict[bytes, bytes], pieces: list[bytes]) -> sparse.Sparse:
        version = (extended.get(b"GNU.sparse.major", b"0"), extended.get(b"GNU.sparse.minor", b"0"))
        if version[0] == b"0":
            return sparse.from_records({b"GNU.sparse.size": b"", **extended}, pieces, self._left, self._limits)
        if version != (b"1", b"0"):
            raise malformed("a sparse file of an unknown form")
        found, taken = sparse.from_data({b"GNU.sparse.realsize": b"", **extended}, self._feed, self._left, self._limits)
        self._left -= taken
        return found


def _check(header: bytes, field: bytes) -> None:
    """The checksum: the sum of all bytes, its own field taken as blanks.

    Adler-32's lower half is that sum modulo 65521 (RFC 1950), in a fiftieth of the time that sum() takes.
    """
    said = number(field)
    blanked = header[:148] + b"        " + header[156:]
    if (said + 1) % 65521 == zlib.adler32(blanked) & 0xFFFF:
        return
    if said == sum(blanked) - 256 * sum(byte > 127 for byte in blanked):  # old writers took bytes as signed
        return
    raise malformed("a header whose checksum is wrong")


def _global(data: bytes) -> dict[bytes, bytes]:
    found = dict(records(data))
    for key in found:
        if key not in _GLOBALS and not key[:1].isupper():  # upper case: somebody's own words (POSIX)
            raise malformed(f"a global pax header that sets {key[:40]!r}")
        if key.startswith((b"GNU.sparse.", b"SCHILY.", b"LIBARCHIVE.")):
            raise malformed(f"a global pax header that sets {key[:40]!r}")
    return {key: value for key, value in found.items() if key in (b"mtime", b"atime", b"uid", b"gid")}


def clean(name: bytes, limits: Limits) -> bytes:
    """A name relative to the tree's root, without `.` and empty parts. BadImage: `..`, a NUL, too long or deep."""
    if b"//" in name or b"./" in name or name[:1] in b"./" or name[-1:] in b"./":
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts or not name:
            raise malformed(f"{name[:200]!r} is no name inside the layer" if name else "an entry without a name")
        name = b"/".join(parts)
    if len(name) > limits.path or name.count(b"/") >= limits.depth:
        raise BadImage("read layer", repr(name[:80]), "the name is too long or too deep", "a bomb?")
    if b"\0" in name:
        raise malformed("a name with a NUL in it")
    return name
