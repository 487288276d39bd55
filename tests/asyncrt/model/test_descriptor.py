"""Descriptors and digests: what is let in, and that a blob is held against them."""

import hashlib
import json

import msgspec
import pytest

from asyncrt.errors import BadImage, from_dict
from asyncrt.model.descriptor import Descriptor, Platform, describe
from asyncrt.model.digest import Digest, is_digest

HELLO = "sha256:" + hashlib.sha256(b"hello").hexdigest()
LONG = "sha512:" + hashlib.sha512(b"hello").hexdigest()


@pytest.mark.parametrize("text", [HELLO, LONG])
def test_a_digest_is_its_own_text(text: str) -> None:
    digest = Digest.parse(text)
    assert str(digest) == text
    hasher = digest.hasher()
    hasher.update(b"hel")
    assert not digest.matches(hasher)
    hasher.update(b"lo")
    assert digest.matches(hasher)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        HELLO.upper(),
        HELLO[:-1],
        HELLO + "0",
        HELLO + "\n",
        " " + HELLO,
        HELLO.replace("sha256", "sha512"),
        HELLO.replace("sha256", "md5"),
        "sha256:" + "../" * 21 + "x",
        "sha256:" + "\u0661" * 64,  # a digit, but none of ours
        hashlib.sha256(b"hello").hexdigest(),
    ],
)
def test_what_is_no_digest(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(BadImage, match="that is no digest"):
        Digest.parse(text)


def test_a_descriptor_as_the_spec_writes_it() -> None:
    document = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": HELLO,
        "size": 5,
        "annotations": {"a": "b"},
        "platform": {"architecture": "arm64", "os": "linux", "os.version": "1", "variant": "v8"},
        "unknown": {"is": "let through"},
    }
    descriptor = msgspec.json.decode(json.dumps(document).encode(), type=Descriptor)
    assert descriptor.platform == Platform("arm64", "linux", "1", (), "v8")
    again = json.loads(msgspec.json.encode(descriptor))
    del document["unknown"]
    assert again == document


@pytest.mark.parametrize(
    ("field", "value"),
    [("digest", "sha256:short"), ("digest", 5), ("size", -1), ("size", 1 << 63), ("size", "5"), ("mediaType", None)],
)
def test_a_descriptor_that_is_none(field: str, value: object) -> None:
    document = {"mediaType": "m", "digest": HELLO, "size": 5, field: value}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps(document).encode(), type=Descriptor)


def test_a_blob_is_held_against_its_descriptor() -> None:
    descriptor = describe(b"hello", "text/plain")
    assert (descriptor.digest, descriptor.size) == (HELLO, 5)
    assert str(describe(b"hello", "text/plain", "sha512").parsed) == LONG
    descriptor.check(b"hello")
    with pytest.raises(BadImage, match="6 bytes, where its descriptor says 5"):
        descriptor.check(b"hello!")
    with pytest.raises(BadImage, match="its bytes have the digest") as caught:
        descriptor.check(b"hellO")
    assert isinstance(from_dict(caught.value.to_dict()), BadImage)
