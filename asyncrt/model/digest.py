"""Digests of the image-spec: `algorithm:encoded`, parsed strictly, computed while bytes stream by.

The spec's grammar (descriptor.md, "Digests") lets more through than anybody computes. Here a digest is one of its two
registered algorithms with exactly the lower-case hex digits that it has, so that it is also a safe file name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from asyncrt.errors import BadImage

if TYPE_CHECKING:
    from hashlib import _Hash

# name -> hex digits
ALGORITHMS = {"sha256": 64, "sha512": 128}
_SHAPE = re.compile("|".join(f"{name}:[0-9a-f]{{{digits}}}" for name, digits in ALGORITHMS.items()))


class Digest(NamedTuple):
    """A parsed digest; str() gives the text back."""

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest that `text` is; BadImage if it is none."""
        if not is_digest(text):
            known = " or ".join(f"{name}:<{digits} hex digits>" for name, digits in ALGORITHMS.items())
            raise BadImage("read digest", repr(text[:200]), "that is no digest", f"it is {known}, in lower case")
        algorithm, _, encoded = text.partition(":")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of bytes at hand."""
        return cls(algorithm, hashlib.new(algorithm, data, usedforsecurity=False).hexdigest())

    def hasher(self) -> _Hash:
        """A fresh hash of this digest's algorithm: update() it, then ask matches()."""
        return new_hash(self.algorithm)

    def matches(self, hasher: _Hash) -> bool:
        """Whether what the hash has seen is what this digest names."""
        return hasher.hexdigest() == self.encoded


def is_digest(text: str) -> bool:
    """Whether `text` is a digest, to the letter."""
    return _SHAPE.fullmatch(text) is not None


def new_hash(algorithm: str = "sha256") -> _Hash:
    """A hash by a name of ALGORITHMS."""
    return hashlib.new(algorithm, usedforsecurity=False)


def chain_ids(diff_ids: Iterable[Digest]) -> list[Digest]:
    """The chainID of each layer, from the lowest up: what it is with all that lies below it.

    Source: image-spec config.md, "Layer ChainID".
    """
    chains: list[Digest] = []
    for diff_id in diff_ids:
        chains.append(Digest.of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
