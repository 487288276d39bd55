"""Manifests and indexes: decoded from bounded bytes, refused where two readers could read them in two ways.

    read(data, media_type) -> Manifest | Index

`media_type` is what the outside says that the bytes are (a descriptor, a Content-Type). A document that says something
else, that has the fields of both kinds, or that spells a field in other letters (Go's decoder takes "Layers" for
"layers") is refused: CVE-2021-41190. What the spec does not name is skipped; annotations are carried and steer nothing.
Sources: OCI image-spec v1.1.1 manifest.md, image-index.md; docker's manifest schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from asyncrt.errors import BadImage, shown
from asyncrt.images.decoding import decode
from asyncrt.model import media_types
from asyncrt.model.descriptor import Descriptor

MAX_LAYERS = 1024  # overlay and every engine stop long before

# Fields that belong to one kind alone.
_OF_MANIFESTS = frozenset({"config", "layers"})
_OF_INDEXES = frozenset({"manifests"})
_OF_SCHEMA_1 = frozenset({"fsLayers"})
_FIELDS = {"schemaVersion", "mediaType", "artifactType", "subject", "annotations"} | _OF_MANIFESTS | _OF_INDEXES
KINDS = media_types.INDEXES | media_types.MANIFESTS
_LOWERED = {name.lower() for name in _FIELDS}


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One image or artifact: a config and layers."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        """What it holds: the artifact's type, or that of its config."""
        return self.artifact_type or self.config.media_type


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Several manifests, mostly one a platform."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] | None = None


def read(data: bytes, media_type: str = "", subject: str = "") -> Manifest | Index:
    """The document that `data` is. BadImage names `subject` (a reference, a digest) and what is wrong with it.

    The answer's `media_type` is never empty: a document without one (OCI allows it) is what its fields are.
    """
    subject = subject or media_type or "of unknown type"
    if media_type in media_types.OUTDATED:
        raise _outdated(subject, media_types.OUTDATED[media_type])
    fields = _fields(data, subject)
    kind = _kind(fields, media_type, subject, data)
    shape: type[Manifest | Index] = Index if kind in media_types.INDEXES else Manifest
    document = decode(data, shape, "manifest", subject)
    if document.schema_version != 2:
        raise _refused(subject, f"its schemaVersion is {document.schema_version}, not 2")
    if isinstance(document, Manifest) and len(document.layers) > MAX_LAYERS:
        raise _refused(subject, f"it has {len(document.layers)} layers, more than {MAX_LAYERS}")
    return msgspec.structs.replace(document, media_type=kind)


def layers(manifest: Manifest, subject: str) -> tuple[Descriptor, ...]:
    """The layers of an image, the lowest first; BadImage for one that stands elsewhere, or is no tar."""
    for layer in manifest.layers:
        if layer.media_type in media_types.NONDISTRIBUTABLE:
            raise BadImage(
                "take layer",
                f"{layer.digest} of {subject}",
                "it is not distributable: it stands at a url of its vendor, and urls of an image are not followed",
                "use an image whose layers are all in the registry",
            )
        if layer.media_type not in media_types.LAYERS:
            raise BadImage(
                "take layer", f"{layer.digest} of {subject}", f"{shown(layer.media_type)} is no layer of a file system"
            )
    return manifest.layers


def encode(document: Manifest | Index) -> bytes:
    """The document as JSON, the same bytes for the same value."""
    return msgspec.json.encode(document, order="deterministic")


def _fields(data: bytes, subject: str) -> frozenset[str]:
    """The names of the document's fields that are not null; those of ours in other letters are refused."""
    found = decode(data, dict[str, msgspec.Raw], "manifest", subject)
    for name in found:
        if name not in _FIELDS and name.lower() in _LOWERED:
            raise _refused(subject, f"{shown(name)!r} is a field's name in other letters: tools would differ about it")
    return frozenset(name for name, value in found.items() if bytes(value) != b"null")


def _kind(fields: frozenset[str], media_type: str, subject: str, data: bytes) -> str:
    """The media type to read the document by."""
    if fields >= _OF_SCHEMA_1:
        raise _outdated(subject, "a docker schema 1 manifest")
    says = decode(data, _Says, "manifest", subject).media_type
    if says in media_types.OUTDATED:
        raise _outdated(subject, media_types.OUTDATED[says])
    given = "" if media_type in media_types.VAGUE else media_type
    if says and given and says != given:
        raise _refused(subject, f"it was given as {shown(given)} and says that it is {shown(says)}")
    index, manifest = fields & _OF_INDEXES, fields & _OF_MANIFESTS
    if index and manifest:
        raise _refused(subject, "it has the fields of a manifest and of an index")
    kind = given or says or (media_types.OCI_INDEX if index else media_types.OCI_MANIFEST)
    if kind not in media_types.INDEXES | media_types.MANIFESTS:
        raise _refused(subject, f"{shown(kind)} is neither manifest nor index")
    if (kind in media_types.INDEXES and manifest) or (kind in media_types.MANIFESTS and index):
        raise _refused(subject, f"it is given as {kind} and has the fields of the other kind")
    return kind


class _Says(msgspec.Struct, rename="camel"):
    """What a document says about itself."""

    media_type: str = ""


def _outdated(subject: str, what: str) -> BadImage:
    hint = "push it again with a tool of today: docker schema 2 or OCI"
    return BadImage("read manifest", subject, f"it is {what}, which is not read here", hint)


def _refused(subject: str, cause: str) -> BadImage:
    return BadImage("read manifest", subject, cause)
