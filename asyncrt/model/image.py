"""What is remembered of images: names, what keeps blobs for a while, and which blob refers to which.

The three together say what a collection keeps: roots are the targets of names and the digests of leases, edges lead on
from there (asyncrt/content/collect.py).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from asyncrt.model.descriptor import Descriptor


class NamedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name of an image: `name` is a whole reference, `target` its manifest or index. Times in ns since 1970."""

    name: str
    target: Descriptor
    updated_ns: int = 0


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """What keeps blobs and ingests of somebody who may come back for them, up to a time (ns since 1970)."""

    id: str
    expires_ns: int
    digests: tuple[str, ...] = ()
    ingests: tuple[str, ...] = ()


class Edges(msgspec.Struct, frozen=True, omit_defaults=True):
    """The blobs that a blob refers to: manifests of an index; config and layers of a manifest."""

    digest: str
    children: tuple[str, ...] = ()


class ImageSummary(msgspec.Struct, frozen=True):
    """A name ("<none>") and what it means here.

    `id` is its config's digest; `size` its layers' bytes as stored, -1 unknown; `created` RFC 3339, as its maker wrote.
    """

    name: str
    digest: str
    id: str
    size: int
    platform: str
    updated_ns: int
    created: str = ""
    labels: Mapping[str, str] = {}


class BlobProgress(msgspec.Struct, frozen=True):
    """How far one blob is, in bytes; `state` is one of waiting running retrying checking there mounted done failed."""

    digest: str
    media_type: str
    state: str
    done: int
    total: int
    note: str = ""
