"""Entries to a tar that every reader takes: ustar, with pax records before what does not fit into it.

    writer = Writer(sink)               # sink(bytes) gets the tar in order
    writer.entry(entry)                 # a file's bytes follow by writer.content(...), then writer.pad()
    writer.finish()

The same entries give the same bytes. Owners are numbers and have no names. Sparse files are written as pax 1.0.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncrt.layers.entry import DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from asyncrt.layers.sparse import Sparse

BLOCK = 512
_GATHER = 1 << 18
_MOST_ID = 0o7777777
_MOST_SIZE = 0o77777777777
_MOST_TIME = 0o77777777777


class Writer:
    """A tar in the making."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._parts: list[bytes] = []
        self._gathered = 0
        self._open = 0  # bytes of the entry at hand that are still to come
        self._size = 0
        self.entries = 0

    def entry(self, entry: Entry) -> None:
        """The headers of one entry. Of a file's bytes exactly entry.stored must follow."""
        assert not self._open
        records: list[tuple[bytes, bytes]] = []
        name = entry.name + b"/" if entry.kind == DIRECTORY else entry.name
        if not entry.name:
            name = b"./"
        stored, shown = entry.stored, name
        sparse_map = b""
        if entry.sparse is not None:
            sparse_map = _map(entry.sparse)
            stored += len(sparse_map)
            records += [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name)]
            records += [(b"GNU.sparse.realsize", b"%d" % entry.sparse.size)]
            shown = b"GNUSparseFile.0/" + name.rpartition(b"/")[2]
        prefix, base = _split(shown)
        if not base:
            records.append((b"path", shown))
            base = shown[-100:]
        link = entry.link if entry.kind in (HARDLINK, SYMLINK) else b""
        if len(link) > 100:
            records.append((b"linkpath", link))
        for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
            if value > _MOST_ID:
                records.append((key, b"%d" % value))
        if stored > _MOST_SIZE:
            records.append((b"size", b"%d" % stored))
        seconds, fraction = divmod(entry.mtime_ns, 10**9)
        if fraction or not 0 <= seconds <= _MOST_TIME:
            records.append((b"mtime", _time(entry.mtime_ns)))
        records += [(b"SCHILY.xattr." + key, entry.xattrs[key]) for key in sorted(entry.xattrs)]
        if records:
            self._records(records)
        self._header(entry, base, prefix, link, stored, seconds)
        self.entries += 1
        self._open = entry.stored if entry.kind == FILE else 0
        self._size = stored
        if sparse_map:
            self._put(sparse_map)
        if not self._open:
            self._pad()

    def content(self, data: bytes) -> None:
        """More bytes of the file at hand."""
        assert len(data) <= self._open
        self._open -= len(data)
        self._put(data)
        if not self._open:
            self._pad()

    def finish(self) -> None:
        """The end of the archive."""
        assert not self._open
        self._put(bytes(2 * BLOCK))
        self._flush()

    def _records(self, records: list[tuple[bytes, bytes]]) -> None:
        if not all(_is_text(value) for key, value in records if key in (b"path", b"linkpath", b"GNU.sparse.name")):
            records = [(b"hdrcharset", b"BINARY"), *records]
        data = b"".join(_record(key, value) for key, value in records)
        self._put(_block(b"PaxHeaders.0/x", b"", b"x", 0o644, 0, 0, len(data), 0, b"", 0, 0))
        self._put(data + bytes(-len(data) % BLOCK))

    def _header(self, entry: Entry, base: bytes, prefix: bytes, link: bytes, stored: int, seconds: int) -> None:
        mtime = min(max(seconds, 0), _MOST_TIME)
        uid, gid, size = min(entry.uid, _MOST_ID), min(entry.gid, _MOST_ID), min(stored, _MOST_SIZE)
        size = size if entry.kind == FILE else 0
        self._put(
            _block(base, prefix, entry.kind, entry.mode, uid, gid, size, mtime, link[:100], entry.major, entry.minor)
        )

    def _pad(self) -> None:
        self._put(bytes(-self._size % BLOCK))
        self._size = 0

    def _put(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._gathered += len(data)
            if self._gathered >= _GATHER:
                self._flush()

    def _flush(self) -> None:
        data, self._parts, self._gathered = b"".join(self._parts), [], 0
        self._sink(data)


def _block(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    major: int,
    minor: int,
) -> bytes:
    front = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    back = b"%s%sustar\00000%s%07o\0%07o\0%s" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    return b"%s%06o\0 %s" % (front, sum(front) + 8 * 32 + sum(back), back)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """(prefix, name) as they go into a header; both empty if they do not."""
    if len(name) <= 100:
        return b"", name
    at = name.find(b"/", max(0, len(name) - 101), 156)
    if at > 0 and name[at + 1 :]:
        return name[:at], name[at + 1 :]
    return b"", b""


def _record(key: bytes, value: bytes) -> bytes:
    body = b" %s=%s\n" % (key, value)
    length = len(body) + len(str(len(body)))
    if len(str(length)) > len(str(len(body))):
        length += 1
    return b"%d%s" % (length, body)


def _time(value: int) -> bytes:
    sign, value = (b"-", -value) if value < 0 else (b"", value)
    seconds, fraction = divmod(value, 10**9)
    digits = (b"%09d" % fraction).rstrip(b"0")
    return b"%s%d%s" % (sign, seconds, b"." + digits if digits else b"")


def _map(sparse: Sparse) -> bytes:
    lines = [len(sparse.pieces), *(number for piece in sparse.pieces for number in piece)]
    data = b"".join(b"%d\n" % number for number in lines)
    return data + bytes(-len(data) % BLOCK)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
