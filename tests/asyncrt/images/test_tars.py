"""A tar from a pipe or file, in every form that people compress it by."""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import threading
from collections.abc import Callable

import pytest
import zstandard

from asyncrt.errors import BadImage
from asyncrt.images.tars import squeezed

DATA = os.urandom(300_000) + bytes(2_000_000)


def never() -> None: ...


def piped(data: bytes, piece: int = 60_000) -> tuple[bytes, str, int]:
    """(the blob, the diffID, the tar's size) of what comes through a pipe in pieces."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb", buffering=0) as out, contextlib.suppress(BrokenPipeError):  # it was damaged
            for place in range(0, len(data), piece):
                out.write(data[place : place + piece])

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    blob = bytearray()
    try:
        written = squeezed(read_end, blob.extend, never)
    finally:
        os.close(read_end)
        thread.join()
    assert written.size == len(blob)
    return bytes(blob), written.diff_id.encoded, written.tar_size


@pytest.mark.parametrize(
    "press", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress]
)
def test_every_form(press: Callable[[bytes], bytes]) -> None:
    blob, diff_id, size = piped(press(DATA))
    assert gzip.decompress(blob) == DATA
    assert (diff_id, size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_two_streams_in_a_row_are_one() -> None:
    blob, _, _ = piped(gzip.compress(b"one") + gzip.compress(b"two"), piece=1)
    assert gzip.decompress(blob) == b"onetwo"


@pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress])
def test_damage(press: Callable[[bytes], bytes]) -> None:
    whole = press(DATA)
    with pytest.raises(BadImage, match="ends in the middle"):
        piped(whole[:-1000])
    with pytest.raises(BadImage, match="is damaged"):
        piped(whole[:2000] + bytes(500) + whole[2500:])
