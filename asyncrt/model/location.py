"""Where an image is, in skopeo's syntax: what `asyncrt copy` takes and gives.

    docker://REFERENCE          a registry
    oci:DIR[:TAG]               an OCI layout as a directory
    oci-archive:FILE[:TAG]      the same as a tar
    docker-archive:FILE[:REF]   what `docker save` writes
    dir:DIR                     a manifest and blobs as plain files
    asyncrt:REFERENCE           the engine's own images

A path ends at its first colon. Source: containers-transports(5).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from asyncrt.errors import BadRequest, shown
from asyncrt.model import reference as references

NAMED = ("docker", "asyncrt")  # what stands behind them is an image's name
FILES = ("oci", "oci-archive", "docker-archive", "dir")
_KNOWN = "docker://REF, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:REF], dir:DIR, asyncrt:REF"


class Location(NamedTuple):
    """`path` of files, `name` of an image: a whole reference, or a tag within a layout; "" if it is not said."""

    transport: str
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        mark = "//" if self.transport == "docker" else ""
        path = self.path + (":" if self.path and self.name else "")
        return f"{self.transport}:{mark}{path}{self.name}"


def parse(text: str) -> Location:
    """The location that `text` is; BadRequest says what is wrong. Paths are made absolute."""
    transport, colon, rest = text.partition(":")
    if not colon or transport not in NAMED + FILES:
        raise BadRequest("read location", shown(text) or '""', "it names no place that is known", _KNOWN)
    if transport in NAMED:
        if transport == "docker":
            if not rest.startswith("//"):
                raise BadRequest("read location", shown(text), "// is missing behind docker:", "docker://HOST/PATH:TAG")
            rest = rest[2:]
        return Location(transport, "", str(references.parse(rest)))
    path, _, name = rest.partition(":") if transport != "dir" else (rest, "", "")
    if not path or "\0" in path:
        raise BadRequest("read location", shown(text), "a path is missing", _KNOWN)
    if transport == "docker-archive" and name:
        name = str(references.parse(name))
    return Location(transport, str(Path(path).absolute()), name)
