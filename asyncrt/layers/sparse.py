"""Sparse files: where in a file the stored bytes belong. Three forms, one value.

    GNU old     type S: four pieces in the header, more in blocks of 21 behind it
    pax 0.0     a record GNU.sparse.offset and one GNU.sparse.numbytes a piece
    pax 0.1     GNU.sparse.map, comma-separated
    pax 1.0     decimal lines before the file's bytes, padded to a block
Source: the manual of GNU tar, "Sparse Formats".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from asyncrt.layers.feed import Feed, truncated
from asyncrt.layers.limits import Limits
from asyncrt.layers.numbers import decimal, malformed, number

BLOCK = 512


class Sparse(NamedTuple):
    """The pieces (offset, length) of a file of `size` bytes: rising, apart, and as long as what is stored."""

    size: int
    pieces: tuple[tuple[int, int], ...]


def checked(size: int, flat: Iterable[int], stored: int, limits: Limits) -> Sparse:
    """The map whose offsets and lengths come in turns. BadImage: out of order, beyond the end, not what is stored."""
    numbers = list(flat)
    if len(numbers) % 2 or len(numbers) > 2 * limits.sparse_pieces:
        raise malformed("a sparse file with half a piece, or too many of them")
    if not 0 <= size <= limits.file_bytes:
        raise malformed(f"a sparse file of {size} bytes")
    pieces = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    end = total = 0
    for offset, length in pieces:
        if length < 0 or offset < end or offset + length > size:
            raise malformed("a sparse file whose pieces overlap or lead beyond its end")
        end, total = offset + length, total + length
    if total != stored:
        raise malformed(f"a sparse file with {total} bytes in its map and {stored} stored")
    return Sparse(size, pieces)


def old(header: bytes, feed: Feed, stored: int, limits: Limits) -> Sparse:
    """The map of a type S header, and of the blocks that follow it."""
    numbers: list[int] = []

    def gather(block: bytes, start: int, count: int) -> bool:
        for at in range(start, start + 24 * count, 24):
            if block[at : at + 24].strip(b"\0 "):
                numbers.extend((number(block[at : at + 12]), number(block[at + 12 : at + 24])))
        return block[start + 24 * count] != 0

    more = gather(header, 386, 4)
    while more:
        if len(numbers) > 2 * limits.sparse_pieces:
            raise malformed("a sparse file with too many pieces")
        block = feed.take(BLOCK)
        if not block:
            raise truncated()
        more = gather(block, 0, 21)
    return checked(number(header[483:495]), numbers, stored, limits)


def from_records(records: dict[bytes, bytes], pieces: list[bytes], stored: int, limits: Limits) -> Sparse:
    """The map of pax 0.0 (`pieces` are its repeated records' values) or 0.1."""
    flat = records[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in records else pieces
    if flat == [b""]:
        flat = []
    size = decimal(records[b"GNU.sparse.size"], "size")
    return checked(size, (decimal(text, "offset") for text in flat), stored, limits)


def from_data(records: dict[bytes, bytes], feed: Feed, stored: int, limits: Limits) -> tuple[Sparse, int]:
    """(the map of pax 1.0, the bytes that it took of the stored ones)."""
    buffer = bytearray()
    position = taken = 0

    def line() -> int:
        nonlocal position, taken
        while (end := buffer.find(b"\n", position)) < 0:
            if len(buffer) - position > 20 or taken + BLOCK > stored:
                raise malformed("a sparse file whose map does not end")
            block = feed.take(BLOCK)
            if not block:
                raise truncated()
            buffer.extend(block)
            taken += BLOCK
        text, position = bytes(buffer[position:end]), end + 1
        return decimal(text, "offset")

    count = line()
    if count > limits.sparse_pieces:
        raise malformed("a sparse file with too many pieces")
    flat = [line() for _ in range(2 * count)]
    size = decimal(records[b"GNU.sparse.realsize"], "size")
    return checked(size, flat, stored - taken, limits), taken
