"""Manifests and indexes: what is read, and what is refused because two readers would differ about it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncrt.errors import BadImage, NoSuchObject
from asyncrt.images import documents, selection
from asyncrt.images.documents import Index, Manifest
from asyncrt.model import media_types
from asyncrt.model.platform import parse as platform

SHA = "sha256:" + "ab" * 32


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": SHA, "size": 3, **more}


def manifest(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": descriptor(media_types.OCI_CONFIG),
        "layers": [descriptor(f"{media_types.OCI_LAYER}+gzip")],
        **more,
    }


def index(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": list(entries), **more}


def read(document: Any, media_type: str = "") -> Manifest | Index:
    return documents.read(json.dumps(document).encode(), media_type, "x")


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in names}


def test_both_kinds_of_both_families_are_read() -> None:
    docker = manifest(mediaType=media_types.DOCKER_MANIFEST)
    assert read(docker, media_types.DOCKER_MANIFEST).media_type == media_types.DOCKER_MANIFEST
    assert isinstance(read(manifest()), Manifest)
    assert isinstance(read(index()), Index)
    assert isinstance(read(index(mediaType=media_types.DOCKER_INDEX)), Index)


def test_a_document_without_media_type_is_what_its_fields_are() -> None:
    assert read(without(manifest(), "mediaType")).media_type == media_types.OCI_MANIFEST
    assert read(without(index(), "mediaType"), "application/json").media_type == media_types.OCI_INDEX
    assert read(without(manifest(), "mediaType"), media_types.DOCKER_MANIFEST).media_type == media_types.DOCKER_MANIFEST


def test_the_same_value_gives_the_same_bytes_and_reads_back() -> None:
    found = read(manifest(annotations={"b": "1", "a": "2"}, subject=descriptor(media_types.OCI_MANIFEST)))
    assert documents.encode(found) == documents.encode(found)
    assert documents.read(documents.encode(found)) == found
    assert b"platform" not in documents.encode(found)


@pytest.mark.parametrize(
    ("document", "media_type", "cause"),
    [
        (manifest(), media_types.OCI_INDEX, "it was given as .*index.* and says that it is .*manifest"),
        (manifest(), media_types.DOCKER_MANIFEST, "it was given as"),
        (manifest(manifests=[]), "", "fields of a manifest and of an index"),
        (index(layers=[]), "", "fields of a manifest and of an index"),
        (index(config=descriptor("x")), "", "fields of a manifest and of an index"),
        (without(index(), "mediaType"), media_types.OCI_MANIFEST, "the fields of the other kind"),
        (without(manifest(), "mediaType"), media_types.OCI_INDEX, "the fields of the other kind"),
        (manifest(Layers=[]), "", "'Layers' is a field's name in other letters"),
        (index(LAYERS=[]), "", "in other letters"),
        (manifest(mediatype="x"), "", "in other letters"),
        (manifest(mediaType="text/html"), "", "text/html is neither manifest nor index"),
        (manifest(), "text/html", "it was given as text/html"),
        (without(manifest(), "mediaType"), "text/html", "text/html is neither manifest nor index"),
        (manifest(schemaVersion=1), "", "schemaVersion is 1"),
        (manifest(schemaVersion="2"), "", r"expected `int`, got `str` - at `\$.schemaVersion`"),
        (manifest(mediaType=5), "", r"at `\$.mediaType`"),
        (manifest(layers=[descriptor("x", size=-1)]), "", r"is no size - at `\$.layers\[0\]`"),
        (manifest(layers=[descriptor("x", digest="sha256:../../x")]), "", "is no digest"),
        (manifest(layers=[descriptor("x")] * 1025), "", "1025 layers"),
        (without(manifest(), "config"), "", "missing required field `config`"),
        (without(manifest(), "layers"), "", "missing required field `layers`"),
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "", "docker schema 1"),
        (manifest(mediaType="application/vnd.docker.distribution.manifest.v1+json"), "", "docker schema 1"),
        ({}, "application/vnd.docker.distribution.manifest.v1+prettyjws", "docker schema 1"),
        ({}, "application/vnd.oci.artifact.manifest.v1+json", "a draft of the spec"),
        ([], "", "expected `object`"),
        (None, "", "expected `object`"),
    ],
)
def test_what_is_ambiguous_or_wrong_is_refused(document: Any, media_type: str, cause: str) -> None:
    with pytest.raises(BadImage, match=f"(?i)read manifest x: .*{cause}"):
        read(document, media_type)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b'{"a":"' + b"x" * (4 << 20) + b'"}', "more than 4 MiB"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
        (b'{"annotations":' + b'{"a":' * 100_000, "nested too deep"),
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"schemaVersion": 2, "\xff": 1}', "utf-8"),
        (b"<html>", "malformed"),
    ],
)
def test_bytes_that_are_no_document_are_refused(data: bytes, cause: str) -> None:
    with pytest.raises(BadImage, match=f"(?i){cause}") as caught:
        documents.read(data, "", "x")
    assert len(str(caught.value)) < 500


def layer_of(media_type: str, **more: Any) -> Manifest:
    found = read(manifest(layers=[descriptor(media_type, **more)]))
    assert isinstance(found, Manifest)
    return found


def test_layers_that_stand_elsewhere_are_refused_clearly() -> None:
    for media_type in media_types.NONDISTRIBUTABLE:
        with pytest.raises(BadImage, match="urls of an image are not followed"):
            documents.layers(layer_of(media_type, urls=["http://127.0.0.1/x"]), "x")
    with pytest.raises(BadImage, match="text/html is no layer"):
        documents.layers(layer_of("text/html"), "x")
    for media_type in media_types.LAYERS:
        # urls beside a usual type (allowed, and never fetched) change nothing
        assert len(documents.layers(layer_of(media_type, urls=["http://127.0.0.1/x"]), "x")) == 1


def entry(name: str, mark: str, **more: Any) -> dict[str, Any]:
    found = platform(name)
    shape = {"os": found.os, "architecture": found.architecture, "variant": found.variant}
    return {**descriptor(media_types.OCI_MANIFEST, platform=shape, **more), "digest": "sha256:" + mark * 64}


def chosen(wanted: str, *entries: dict[str, Any]) -> str:
    found = read(index(*entries))
    assert isinstance(found, Index)
    return "".join(one.digest[-1] for one in selection.candidates(found, platform(wanted), "x"))


def test_an_index_gives_what_suits_the_machine() -> None:
    attestation = entry("unknown/unknown", "9", annotations={"vnd.docker.reference.type": "attestation-manifest"})
    amd, arm = entry("linux/amd64", "a"), entry("linux/arm64/v8", "b")
    assert chosen("linux/amd64", attestation, amd, arm) == "a"
    assert chosen("linux/arm64", attestation, amd, arm) == "b"
    assert chosen("linux/amd64", amd, entry("linux/amd64", "c"), arm) == "ac"
    assert chosen("linux/s390x", without(amd, "platform"), arm) == "a"
    with pytest.raises(NoSuchObject, match=r"no image for linux/s390x \(--platform: linux/amd64, linux/arm64\)"):
        chosen("linux/s390x", attestation, amd, arm)
    with pytest.raises(NoSuchObject, match="no image for linux/amd64"):
        chosen("linux/amd64", entry("linux/amd64", "a", artifactType="x/y"), descriptor("text/html"))


def test_zstd_is_preferred_by_the_layers_themselves() -> None:
    gzip, zstd = layer_of(f"{media_types.OCI_LAYER}+gzip"), layer_of(f"{media_types.OCI_LAYER}+zstd")
    assert selection.prefer([(gzip, 1), (zstd, 2)]) == 2
    assert selection.prefer([(gzip, 1), (gzip, 2)]) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(SHA),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted(documents._FIELDS | {"fsLayers", "Layers", "extra"}))
NEARLY = st.builds(
    lambda base, changes, gone: without(base | changes, *gone),
    st.sampled_from([manifest(), index(descriptor(media_types.OCI_MANIFEST))]),
    st.dictionaries(NAMES, JSON | st.just([]) | st.just([descriptor("x")]), max_size=2),
    st.lists(NAMES, max_size=1),
)


@given(NEARLY, st.sampled_from(["", "application/json", *media_types.ACCEPTED, "text/html"]))
def test_any_document_is_read_in_one_way_or_refused(document: dict[str, Any], media_type: str) -> None:
    try:
        found = read(document, media_type)
    except BadImage:
        return
    assert not ("manifests" in document and document["manifests"] and document.get("layers"))
    assert documents.read(documents.encode(found)) == found


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(data: bytes) -> None:
    try:
        documents.read(data, "", "x")
    except BadImage as error:
        assert "\n" not in str(error)  # noqa: PT017
