"""The image references that need no registry: directories of this machine.

    host:               the machine's own root
    rootfs:/PATH        a directory that is a root file system

As the lower layer of an overlay such a directory gives its own file system and nothing that is mounted
below it: overlayfs clones the mount without its children (clone_private_mount() in the kernel). So
`host:` shows /proc, /sys, and a /run or /home that is a mount of its own, as empty directories. Changing
the directory while containers use it does no harm to the machine, but what they see of the change is
undefined (Documentation/filesystems/ overlayfs.rst, "Changes to underlying filesystems").
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from asyncrt.errors import BadRequest, NoSuchObject

_KNOWN = "known are host: and rootfs:/PATH"


class Source(NamedTuple):
    """A root file system to stand on; `path` is absolute and free of symlinks.

    Of an image's layers `path` is the top one, and `below` are the others from top to bottom. `init` is the init layer
    that lies on them, if any.
    """

    kind: Literal["host", "rootfs", "image"]
    path: str
    below: tuple[str, ...] = ()
    init: str = ""


def parse(reference: str) -> Source:
    """The Source that an image reference names.

    BadRequest: an unknown kind, a relative path, not a directory. NoSuchObject: it is not there.
    """
    kind, colon, path = reference.partition(":")
    if colon and kind == "host":
        if path:
            raise BadRequest("find image", reference, "host: takes no path", "write host:, or rootfs:/PATH")
        return Source("host", "/")
    if colon and kind == "rootfs":
        return Source("rootfs", _directory(reference, path))
    raise BadRequest("find image", reference, f'unknown image source "{kind if colon else reference}"', _KNOWN)


def _directory(reference: str, path: str) -> str:
    if not path.startswith("/"):
        cause = f'"{path}" is no absolute path' if path else "no path is given"
        raise BadRequest("find image", reference, cause, "write rootfs:/PATH")
    try:
        resolved = os.path.realpath(path, strict=True)
        resolved.encode()  # paths travel as msgpack strings
        mode = os.stat(resolved).st_mode
    except FileNotFoundError:
        hint = "make a root file system there first"
        raise NoSuchObject("find image", reference, "the directory does not exist", hint) from None
    except NotADirectoryError:
        raise BadRequest("find image", reference, "a part of the path is no directory") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in it, or bytes that are no UTF-8
        cause = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        raise BadRequest("find image", reference, cause) from error
    if not stat.S_ISDIR(mode):
        raise BadRequest("find image", reference, "it is no directory", "unpack the image into a directory first")
    return resolved


def hidden_paths(source: Source, root: Path, state: Path) -> tuple[str, ...]:
    """The engine's own directories as a container on `source` would see them, to be masked there.

    `root` and `state` are the engine's; they lie inside `host:`, where every container could read the
    others' files and records. Empty for a source that does not hold them.
    """
    hidden = []
    for directory in (root, state):
        real = os.path.realpath(directory)
        if os.path.commonpath((source.path, real)) == source.path and real != source.path:
            hidden.append("/" + os.path.relpath(real, source.path))
    # One below the other: the outer mask is enough, and a mask inside a mask has no mount point.
    unique = sorted(set(hidden))
    return tuple(path for path in unique if not any(path.startswith(f"{other}/") for other in unique))
