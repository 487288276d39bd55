"""What is remembered of images: names, what keeps blobs for a while, and which blob refers to which.

The three together say what a collection keeps: roots are the targets of names and the digests of leases, edges lead on
from there (asyncrt/content/collect.py).
"""

from __future__ import annotations

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
