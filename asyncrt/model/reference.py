"""How people name an image, read as docker reads it: `busybox` is docker.io/library/busybox:latest.

    reference   [ host "/" ] path [ ":" tag ] [ "@" digest ]
    host        a name with a dot or a port, "localhost", "[v6 address]"; else the first part belongs to the path
    path        parts of a-z 0-9, joined by ".", "_", "__" or dashes, separated by "/"
    tag         a letter, digit or "_", then up to 127 of these with "." and "-"

A tag and a digest together: the digest decides, the tag is kept to be shown. Neither: the tag is "latest".
Sources: distribution's reference grammar (https://pkg.go.dev/github.com/distribution/reference) and OCI's
distribution-spec v1.1.1, "Pulling manifests": host and path together have at most 255 characters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from asyncrt.errors import BadRequest
from asyncrt.model.digest import is_digest

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library"
_LEGACY_HOST = "index.docker.io"
_LONGEST_NAME = 255
_LONGEST_TEXT = 1024  # more than a name, a tag and a sha512 digest have together

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:.]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_BARE_ID = re.compile(r"[a-f0-9]{64}")


class Reference(NamedTuple):
    """An image's name in full. `str()` of it reads back to the same value."""

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        """Host and path: the repository."""
        return f"{self.host}/{self.path}"

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def familiar(self) -> str:
        """The short form that people write: what docker's own registry implies is left out, the tag is not.

        It reads back to the same value: a path like `x.y/app` keeps its host, or x.y would pass for one.
        """
        first, slash, _ = self.path.partition("/")
        if self.host != DEFAULT_HOST or (slash and _is_host(first)):
            return str(self)
        short = self.path.removeprefix(f"{_OFFICIAL}/")
        if "/" in short or not short:
            short = self.path
        return short + str(self)[len(self.name) :]


def parse(text: str, subject: str = "image") -> Reference:
    """The reference that `text` is; BadRequest says which part is wrong and how it should be."""
    if not text or len(text) > _LONGEST_TEXT:
        raise _refused(subject, text[:40], "it is empty" if not text else "it is too long")
    if _BARE_ID.fullmatch(text):
        raise _refused(subject, text, "64 hex digits are an image's id, not its name", "put sha256: and @ before them")
    name, at, digest = text.partition("@")
    if at:
        check_digest(digest, subject, text)
    host, path, tag = _split(name)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _refused(subject, text, f"{tag!r} is no tag", "up to 128 letters, digits, _ . and -, no . or - at first")
    if not _HOST.fullmatch(host):
        raise _refused(subject, text, f"{host!r} is no host", "write HOST, HOST:PORT or [V6-ADDRESS]:PORT")
    _check_port(host, subject, text)
    if not _PATH.fullmatch(path):
        lower = path != path.lower() and _PATH.fullmatch(path.lower())
        raise _refused(subject, text, f"{path!r} is no repository", _path_hint(bool(lower)))
    if len(host) + 1 + len(path) > _LONGEST_NAME:
        raise _refused(subject, text[:40] + "...", f"host and path are longer than {_LONGEST_NAME} characters")
    return Reference(host, path, tag or ("" if at else DEFAULT_TAG), digest)


def check_digest(digest: str, subject: str, text: str) -> None:
    """BadRequest unless `digest` is sha256 or sha512 with as many lower-case hex digits as that has."""
    if not is_digest(digest):
        raise _refused(subject, text, f"{digest!r} is no digest", "write sha256:64 hex digits, in lower case")


def _split(name: str) -> tuple[str, str, str | None]:
    """Host, path and tag of what stands before the "@", with docker's defaults for host and path."""
    first, slash, rest = name.partition("/")
    if slash and _is_host(first):
        host = first.lower()
    else:
        host, rest = DEFAULT_HOST, name
    if host == _LEGACY_HOST:
        host = DEFAULT_HOST
    path, colon, tag = rest.partition(":")
    if host == DEFAULT_HOST and "/" not in path and path:
        path = f"{_OFFICIAL}/{path}"
    return host, path, tag if colon else None


def _is_host(first: str) -> bool:
    """Whether what stands before the first slash is a host, by docker's rule."""
    return any(mark in first for mark in ".:[") or first == "localhost"


def _check_port(host: str, subject: str, text: str) -> None:
    _, colon, port = host.rpartition("]")[2].partition(":")
    if colon and not 0 < int(port) < 1 << 16:
        raise _refused(subject, text, f"{port} is no port")


def _path_hint(lower: bool) -> str:
    return "in lower case it would be one" if lower else "a-z, 0-9, and . _ __ - between them"


def _refused(subject: str, text: str, cause: str, hint: str = "") -> BadRequest:
    return BadRequest("read", f"{subject} {text!r}", cause, hint)
