"""Docker's documents and OCI's: an image of the one written as an image of the other.

    target = convert(target, content, "oci")        the same target, if it is of that form already

Only media types differ, so layers and config stay as they are, to the byte; manifests and indexes, and with them
their digests, do not. Docker's form has no annotations, subjects, artifacts or zstd: annotations are left out, as
skopeo does, an image with one of the others is refused. Methods block. Sources: as asyncrt/model/media_types.py.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from asyncrt.content.store import Content
from asyncrt.errors import BadRequest
from asyncrt.images import documents
from asyncrt.images.decoding import MAX_BYTES
from asyncrt.images.documents import Index, Manifest
from asyncrt.model import media_types as types
from asyncrt.model.descriptor import Descriptor, describe

Form = Literal["oci", "v2s2"]

_PAIRS = {
    types.OCI_INDEX: types.DOCKER_INDEX,
    types.OCI_MANIFEST: types.DOCKER_MANIFEST,
    types.OCI_CONFIG: types.DOCKER_CONFIG,
    # Docker's own type of a plain layer is of its archives alone; registries' clients take it all the same.
    types.OCI_LAYER: types.DOCKER_LAYER,
    f"{types.OCI_LAYER}+gzip": f"{types.DOCKER_LAYER}.gzip",
}
_OF: dict[Form, dict[str, str]] = {
    "v2s2": _PAIRS,
    "oci": {docker: oci for oci, docker in _PAIRS.items()} | {f"{types.DOCKER_LAYER}.zstd": f"{types.OCI_LAYER}+zstd"},
}
_WORDS = {"oci": "OCI's form", "v2s2": "docker's form"}


def convert(target: Descriptor, content: Content, form: Form) -> Descriptor:
    """`target` with all that it names in that form, written to the store. BadRequest for what has none there."""
    if target.media_type not in _OF[form]:
        return _checked(target, content, form)
    data = content.read(target, MAX_BYTES)
    document = documents.read(data, target.media_type, target.digest)
    return _store(target, _converted(document, content, form), content)


def _checked(target: Descriptor, content: Content, form: Form) -> Descriptor:
    """Of the form already; an index may hold manifests that are not."""
    document = documents.read(content.read(target, MAX_BYTES), target.media_type, target.digest)
    if isinstance(document, Manifest):
        return target
    entries = tuple(_entry(entry, content, form) for entry in document.manifests)
    if entries == document.manifests:
        return target
    return _store(target, msgspec.structs.replace(document, manifests=entries), content)


def _converted(document: Manifest | Index, content: Content, form: Form) -> Manifest | Index:
    if form == "v2s2" and (document.subject or document.artifact_type):
        raise _refused("an artifact, or what has a subject", form)
    annotations = document.annotations if form == "oci" else None
    kind = _OF[form][document.media_type]
    if isinstance(document, Index):
        entries = tuple(_entry(entry, content, form) for entry in document.manifests)
        return Index(2, entries, kind, annotations=annotations)
    layers = tuple(_renamed(layer, form) for layer in document.layers)
    return Manifest(2, _renamed(document.config, form), layers, kind, annotations=annotations)


def _entry(entry: Descriptor, content: Content, form: Form) -> Descriptor:
    if entry.artifact_type and form == "v2s2":
        raise _refused("an artifact", form)
    made = convert(entry, content, form)
    return msgspec.structs.replace(
        made, platform=entry.platform, annotations=entry.annotations if form == "oci" else {}
    )


def _renamed(part: Descriptor, form: Form) -> Descriptor:
    kind = _OF[form].get(part.media_type, part.media_type)
    if kind not in _OF[form].values():
        raise _refused(part.media_type, form)
    return msgspec.structs.replace(part, media_type=kind, annotations=part.annotations if form == "oci" else {})


def _store(target: Descriptor, document: Manifest | Index, content: Content) -> Descriptor:
    data = documents.encode(document)
    made = describe(data, document.media_type, target.parsed.algorithm)
    content.put(data, made.parsed)
    return made


def _refused(what: str, form: Form) -> BadRequest:
    return BadRequest("convert image", what, f"{_WORDS[form]} has no such thing", "copy it without --format")
