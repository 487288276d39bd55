"""The descriptor of the image-spec: what refers to a blob by media type, digest and size, and checks it.

A Descriptor that was decoded is well formed: its digest is a digest, its size is no negative number. Nothing else in
it steers us: annotations and urls are carried along (CVE-2020-15157: a blob is never fetched from a descriptor's urls).
Source: image-spec v1.1 descriptor.md and, for the platform, image-index.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from asyncrt.errors import BadImage
from asyncrt.model.digest import Digest, is_digest

MAX_SIZE = (1 << 63) - 1  # int64, in the spec's words


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a manifest of an index is made for; GOARCH's and GOOS's words."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """A reference to a blob. `size` in bytes; `data` is the blob itself, base64, for small ones."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    data: str = ""
    artifact_type: str = ""
    platform: Platform | None = None

    def __post_init__(self) -> None:
        # msgspec makes of a ValueError its ValidationError, which names the path in the document.
        if not is_digest(self.digest):
            raise ValueError(f"{self.digest[:200]!r} is no digest")
        if not 0 <= self.size <= MAX_SIZE:
            raise ValueError(f"{self.size} is no size")

    @property
    def parsed(self) -> Digest:
        """The digest in its parts."""
        return Digest.parse(self.digest)

    def check(self, data: bytes) -> None:
        """BadImage if `data` is not the blob that this describes: by its size, then by its digest."""
        if len(data) != self.size:
            raise BadImage("check blob", self.digest, f"{len(data)} bytes, where its descriptor says {self.size}")
        found = Digest.of(data, self.parsed.algorithm)
        if str(found) != self.digest:
            raise BadImage("check blob", self.digest, f"its bytes have the digest {found}")


def describe(data: bytes, media_type: str, algorithm: str = "sha256") -> Descriptor:
    """The descriptor of bytes at hand."""
    return Descriptor(media_type, str(Digest.of(data, algorithm)), len(data))
