"""Which of an index's manifests a machine takes.

Those of the best platform, in the index's order: mostly one. Several of one platform differ in what only they
themselves say (their layers' compression), so the caller reads them and `prefer` chooses: zstd inflates several
times faster than gzip. Entries that are no images (attestations have the platform unknown/unknown, artifacts a
type) are never an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from asyncrt.errors import NoSuchObject
from asyncrt.images.documents import Index, Manifest
from asyncrt.model import media_types
from asyncrt.model import platform as platforms
from asyncrt.model.descriptor import Descriptor, Platform

MAX_READ = 4  # so many manifests of one platform are read to choose among

_ANY = media_types.INDEXES | media_types.MANIFESTS
_T = TypeVar("_T")


def candidates(index: Index, wanted: Platform, subject: str) -> list[Descriptor]:
    """The entries that suit best; NoSuchObject names those that there are."""
    images = [entry for entry in index.manifests if entry.media_type in _ANY and not entry.artifact_type]
    offered = [(entry.platform, entry) for entry in images if entry.platform]
    if best := platforms.choose(wanted, offered):
        return best[:MAX_READ]
    # An entry without a platform may be for every machine (the spec makes it optional), or an index in an index.
    if bare := [entry for entry in images if not entry.platform]:
        return bare[:1]
    there = sorted({platforms.written(platform) for platform, _ in offered} - {"unknown/unknown"})
    cause = f"it has no image for {platforms.written(wanted)}"
    raise NoSuchObject("choose image", subject, cause, f"--platform: {', '.join(there[:12]) or 'none'}")


def prefer(found: Sequence[tuple[Manifest, _T]]) -> _T:
    """Of the manifests of one platform the first whose layers are zstd, else the first."""
    for manifest, what in found:
        if manifest.layers and all(media_types.LAYERS.get(layer.media_type) == "zstd" for layer in manifest.layers):
            return what
    return found[0][1]
