"""A tar to a stored layer: gzip, zstd or plain, with digest and diffID. The same tar gives the same blob.

gzip is isal's level 2 (as dense as gzip -1 to -3, an order of magnitude faster), its header without a time or name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from asyncrt.layers.inflate import Form
from asyncrt.model.digest import Digest, new_hash

ISAL_LEVEL = 2
ZSTD_LEVEL = 3
_GZIP = 31  # wbits: a window of 2^15, and gzip's header and trailer

MEDIA_TYPES: dict[Form, str] = {
    "plain": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


class Written(NamedTuple):
    """A layer that was written: its blob (digest, size in bytes) and its tar (diffID, size)."""

    digest: Digest
    size: int
    diff_id: Digest
    tar_size: int


class Deflated:
    """A layer in the making: write() takes the tar, `sink` gets the blob."""

    def __init__(self, sink: Callable[[bytes], object], form: Form = "gzip") -> None:
        self._sink = sink
        self._stored_hash, self._tar_hash = new_hash(), new_hash()
        self._stored = self._tar = 0
        self._encoder = _encoder(form)

    def write(self, data: bytes) -> None:
        """More of the tar."""
        self._tar_hash.update(data)
        self._tar += len(data)
        self._put(self._encoder.compress(data) if self._encoder else data)

    def finish(self) -> Written:
        """The end of the tar."""
        if self._encoder:
            self._put(self._encoder.flush())
        return Written(
            Digest("sha256", self._stored_hash.hexdigest()),
            self._stored,
            Digest("sha256", self._tar_hash.hexdigest()),
            self._tar,
        )

    def _put(self, data: bytes) -> None:
        if data:
            self._stored_hash.update(data)
            self._stored += len(data)
            self._sink(data)


def _encoder(form: Form) -> Any:
    if form == "gzip":
        from isal import isal_zlib

        return isal_zlib.compressobj(ISAL_LEVEL, isal_zlib.DEFLATED, _GZIP)
    if form == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
    return None
