"""The requests of the native API that are about images; what they answer says protocol.py."""

from __future__ import annotations

from asyncrt.model.request import Request


class Pull(Request, frozen=True):
    """`platform` as in linux/arm64, empty for this machine's; `missing`: only if it is not here."""

    image: str
    platform: str = ""
    missing: bool = False


class Push(Request, frozen=True):
    image: str


class Images(Request, frozen=True):
    """Every name and what it means."""


class Tag(Request, frozen=True):
    """Give an image one more name."""

    image: str
    name: str


class RemoveImage(Request, frozen=True):
    """Forget names; blobs and layers that nothing needs any more go. `force`: also what containers stand on."""

    refs: tuple[str, ...]
    force: bool = False


class Load(Request, frozen=True):
    """Take the images of an archive or layout (docker's or OCI's): the frame brings an fd to read it from.

    A file, a pipe, or the directory of a layout.
    """


class Save(Request, frozen=True):
    """Write images as one archive: the frame brings an fd to write to, of "oci-dir" that of a directory.

    `format`: "" is docker's archive and OCI's in one, which tools of today read; "docker-archive" docker's of any age,
    with layers inflated; "oci-archive" and "oci-dir" OCI's layout.
    """

    refs: tuple[str, ...]
    format: str = ""
