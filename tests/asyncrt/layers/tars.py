"""Tars made by hand, header by header: also those that no tool would write."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

from asyncrt.layers.apply import Applied, apply
from asyncrt.layers.entry import Entry
from asyncrt.layers.feed import Feed
from asyncrt.layers.limits import DEFAULT, Limits
from asyncrt.layers.reader import Reader
from asyncrt.layers.whiteouts import Style

END = bytes(1024)
USTAR = b"ustar\x0000"
GNU = b"ustar  \x00"


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    kind: bytes = b"0",
    size: int | bytes = 0,
    mode: int = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    magic: bytes = USTAR,
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One block; a bytes value is put in as it is."""

    def field(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else octal(value, width)

    parts = [name.ljust(100, b"\0")[:100], octal(mode, 8), field(uid, 8), field(gid, 8), field(size, 12)]
    parts += [field(mtime, 12), b" " * 8, kind, link.ljust(100, b"\0")[:100], magic, bytes(64)]
    parts += [octal(major, 8), octal(minor, 8), prefix.ljust(167, b"\0")[:167]]
    return signed(b"".join(parts), checksum)


def signed(block: bytes, checksum: bytes | None = None) -> bytes:
    """The block with its checksum made right (or as given)."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + (checksum or b"%06o\0 " % sum(blank)) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, **fields: object) -> bytes:
    return header(name, b"5", **{"mode": 0o755, **fields})  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> bytes:
    return header(name, b"1", link=target)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    return file(b"pax", b"".join(record(*pair) for pair in records), kind=kind)


def chunks(data: bytes, size: int = 1 << 20) -> Iterator[bytes]:
    source = io.BytesIO(data)
    while chunk := source.read(size):
        yield chunk


def read(data: bytes, limits: Limits = DEFAULT, size: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    """Every entry with its bytes."""
    reader = Reader(Feed(chunks(data, size)), limits)
    return [(entry, b"".join(bytes(view) for view in reader.content())) for entry in reader]


def unpack(
    data: bytes, place: Path, style: Style = "overlay-user", limits: Limits = DEFAULT, **options: object
) -> Applied:
    """The tar (or what is stored of it) into the directory `place`, made if it is not there."""
    place.mkdir(exist_ok=True)
    blob = os.memfd_create("layer")
    os.write(blob, data)
    root = os.open(place, os.O_RDONLY)
    try:
        return apply(blob, root, style, limits=limits, **options)  # type: ignore[arg-type]
    finally:
        os.close(blob)
        os.close(root)


def names(place: Path) -> list[str]:
    """Every path below, in order."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))
