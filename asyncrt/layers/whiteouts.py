"""Whiteouts: the names that say what a layer takes away, and what they become in a tree.

In a tar `.wh.NAME` removes NAME of the layers below, `.wh..wh..opq` all that they have in its directory (image-spec,
layer.md, "Whiteouts"). In overlayfs it is a character device 0:0 and the xattr overlay.opaque (Documentation/
filesystems/overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from asyncrt.layers.numbers import malformed

PREFIX = b".wh."
META = b".wh..wh."  # aufs's own names, and the opaque marker
OPAQUE = b".wh..wh..opq"

# overlay: xattrs in trusted.*, root's; overlay-user: in user.*, of mounts with userxattr; remove: what a whiteout names
# is removed from the tree itself, which holds the layers below already.
Style = Literal["overlay", "overlay-user", "remove"]
OPAQUE_XATTR: dict[Style, str] = {"overlay": "trusted.overlay.opaque", "overlay-user": "user.overlay.opaque"}


class Whiteout(NamedTuple):
    """What an entry takes away: `path`, or all in `path` if opaque. Without effect: one of aufs's own files."""

    path: bytes
    opaque: bool = False
    effect: bool = True


def parse(name: bytes) -> Whiteout | None:
    """The whiteout that an entry of this clean name is; None if it is none. BadImage: one that names no sibling."""
    parts = name.split(b"/")
    if not any(part.startswith(PREFIX) for part in parts):
        return None
    base = parts.pop()
    if any(part.startswith(META) for part in parts) or (base.startswith(META) and base != OPAQUE):
        return Whiteout(name, effect=False)
    if any(part.startswith(PREFIX) for part in parts):
        raise malformed(f"something lies below the whiteout {name[:200]!r}")
    if base == OPAQUE:
        return Whiteout(b"/".join(parts), opaque=True)
    hidden = base[len(PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise malformed(f"{name[:200]!r} is a whiteout of nothing, or of what lies above it")
    return Whiteout(b"/".join((*parts, hidden)))
