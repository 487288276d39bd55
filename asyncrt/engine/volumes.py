"""--volume, and the volumes that an image asks for, to bind mounts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from asyncrt.engine import defaults, image_volumes
from asyncrt.errors import BadRequest, NoSuchObject
from asyncrt.model.options import Volume
from shimd.spec.config import Mount

# Where a bind mount would undo the container's confinement, or let its set-up write into the machine: the
# masks of /proc, and the nodes and symlinks that are made in /dev. Docker allows a /dev; runc then leaves
# the nodes out.
_OURS = ("/proc", "/dev")

# rprivate: a mount made on either side is not seen on the other. rro: what is mounted below the source is read-only
# as well, as Docker has it since 25.0. That takes mount_setattr(2) of Linux 5.12, without which nothing here mounts:
# no container is left with less than it was promised, and Docker's `bind-recursive` has no counterpart.
_WRITABLE = ("rbind", "rprivate")
_READ_ONLY = ("rbind", "rprivate", "ro", "rro")


def mounts(volumes: Sequence[Volume], of_image: Sequence[str] = ()) -> tuple[Mount, ...]:
    """The default mounts and the volumes, parents first; a volume takes the place of a default mount.

    BadRequest, or NoSuchObject for a source that is not there (docker makes a directory of it, owned by
    root, which is seldom meant).
    """
    binds: dict[str, Mount] = {}
    for volume in volumes:
        target = _target(volume.target)
        if target in binds:
            raise BadRequest("mount volume", f"{volume.source}:{target}", "another volume has this target")
        binds[target] = Mount(target, "bind", _source(volume), _READ_ONLY if volume.read_only else _WRITABLE)
    for number, place in enumerate(of_image):
        target = _target(place)
        if target not in binds:  # else the image names one place twice
            binds[target] = Mount(target, "bind", image_volumes.source(number), _WRITABLE)
    kept = [mount for mount in defaults.MOUNTS if mount.destination not in binds]
    return (
        *kept,
        *sorted(binds.values(), key=lambda mount: (mount.destination.count("/"), mount.destination)),
    )


def _target(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise BadRequest("mount volume", path, "the target is no absolute path", "write SOURCE:/TARGET")
    target = "/" + os.path.normpath(path).lstrip("/")
    if target == "/" or target in _OURS or target.startswith("/proc/"):
        raise BadRequest("mount volume", path, "nothing can be mounted there", "choose another target")
    return target


def _source(volume: Volume) -> str:
    source = volume.source
    if not source.startswith("/"):
        raise BadRequest("mount volume", source, "the source is no absolute path", "named volumes are to come")
    try:
        Path(source).stat()
    except FileNotFoundError:
        hint = "make it first: mkdir -p, or touch for a file"
        raise NoSuchObject("mount volume", source, "the source does not exist", hint) from None
    except (OSError, ValueError) as error:
        cause = str(error.strerror).lower() if isinstance(error, OSError) else str(error)
        raise BadRequest("mount volume", source, cause) from error
    return source
