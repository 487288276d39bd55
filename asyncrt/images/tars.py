"""A tar from outside to a layer: whatever it is compressed by, read once from a file or pipe, stored as gzip.

written = squeezed(fd, ingest.write, check)         a Written: digest, diffID, sizes
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.layers import patient
from asyncrt.layers.deflate import Deflated, Written
from asyncrt.layers.limits import DEFAULT

_CHUNK = 1 << 20
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def squeezed(fd: int, sink: Callable[[bytes], object], check: Callable[[], None]) -> Written:
    """Read all of `fd`; the blob goes to `sink`. BadImage: its compressed form is damaged; StorageFailed: unreadable.

    That it is a tar, and one to be unpacked, is for who unpacks it to see.
    """
    deflated = Deflated(sink, "gzip")
    size = 0
    for chunk in plain(fd, check):
        size += len(chunk)
        if size > DEFAULT.tar_bytes:
            raise BadImage("read archive", "", f"uncompressed it has more than {DEFAULT.tar_bytes} bytes", "a bomb?")
        deflated.write(chunk)
    return deflated.finish()


def plain(fd: int, check: Callable[[], None]) -> Iterator[bytes]:
    """The bytes of a file or pipe, inflated where a magic number says so; several streams in a row are one."""
    data = _read(fd, check)
    while data and len(data) < 6 and (more := _read(fd, check)):  # a pipe may give single bytes
        data += more
    form = next((form for magic, form in _MAGIC if data.startswith(magic)), "")
    if not form:
        while data:
            yield data
            data = _read(fd, check)
        return
    decoder = _decoder(form)
    while data:
        try:
            if out := decoder.decompress(data):
                yield out
        except _damage() as error:
            raise BadImage("read archive", "", f"its {form} is damaged: {str(error).lower()}") from None
        data = decoder.unused_data if decoder.eof else b""
        if not data:
            data = _read(fd, check)
        if decoder.eof and data:
            if not data.strip(b"\0"):  # padding
                data = _read(fd, check)
                continue
            decoder = _decoder(form)
    if not decoder.eof:
        raise BadImage("read archive", "", f"its {form} ends in the middle", "it was cut short where it was made")


def _read(fd: int, check: Callable[[], None]) -> bytes:
    try:
        return patient.read(fd, _CHUNK, check)
    except OSError as error:
        raise StorageFailed("read", "archive", (error.strerror or str(error)).lower()) from error


def _decoder(form: str) -> Any:
    if form == "gzip":
        return zlib.decompressobj(31)
    if form == "bzip2":
        return bz2.BZ2Decompressor()
    if form == "xz":
        return lzma.LZMADecompressor()
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()


def _damage() -> tuple[type[Exception], ...]:
    """What the decoders say of bytes that are none of theirs."""
    import zstandard

    return (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
