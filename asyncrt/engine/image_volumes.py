"""Volumes that an image asks for: a directory of the engine for each place and container, with the image's content.

    ROOT/volumes/ID/N       the Nth of options.image_volumes of container ID

Made and filled when the container is, and removed with it: no verb could find what was left. Content is
looked up in the image's layers, symlinks followed inside them alone (CVE-2022-23648), and copied on dirfds. A plan is
shared by all containers of one request: it binds the source `volume:N`, which each Spawn brings as an fd.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.layers import changes, upper
from asyncrt.layers.feed import Feed
from asyncrt.layers.limits import DEFAULT
from asyncrt.layers.metadata import kept
from asyncrt.layers.place import Placer
from asyncrt.layers.reader import Reader
from asyncrt.layers.streams import piped
from asyncrt.layers.upper import LeftOut
from asyncrt.snapshots.removal import remove_tree
from asyncrt.snapshots.sources import Source
from asyncrt.snapshots.stack import Level, find, stacked

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def source(number: int) -> str:
    """What a plan calls the Nth volume."""
    return f"volume:{number}"


class ImageVolumes:
    """The volumes in `directory`. Methods block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def places(self, id: str, count: int) -> list[str]:
        """The directories of a container's volumes."""
        return [f"{self.directory}/{id}/{number}" for number in range(count)]

    def make(self, id: str, targets: Sequence[str], image: Source) -> None:
        """Make and fill a container's. StorageFailed, BadImage; what was made is the caller's to remove."""
        if not targets:
            return
        fds: list[int] = []
        try:
            (self.directory / id).mkdir(0o700, parents=True)
            for path in (image.path, *image.below):
                fds.append(os.open(path, _DIRECTORY))
            with stacked(fds) as root:
                for place, target in zip(self.places(id, len(targets)), targets, strict=True):
                    Path(place).mkdir(0o755)
                    _fill(place, target, root)
        except OSError as error:
            raise StorageFailed(
                "make volume", str(self.directory / id), (error.strerror or str(error)).lower()
            ) from error
        finally:
            for fd in fds:
                os.close(fd)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove all of these containers' volumes. StorageFailed names what would not go."""
        try:
            directory = os.open(self.directory, _DIRECTORY)
        except FileNotFoundError:
            return
        try:
            failures = [failure for id in ids for failure in remove_tree(directory, id, str(self.directory))]
        finally:
            os.close(directory)
        if failures:
            raise StorageFailed("remove volume", failures[0].path, failures[0].cause, failures[0].hint)


def _fill(place: str, target: str, root: Level) -> None:
    directory = os.open(place, _DIRECTORY)
    try:
        level = find(root, os.fsencode(target))
        if level is None:
            os.fchmod(directory, 0o755)  # as docker makes it; the supervisor's umask cut it
            return
        try:
            found = upper.whole(None, level, LeftOut())
            with piped(lambda sink: changes.write(found, sink, "plain", holes=True)) as chunks:
                Placer(directory, _nothing, owners=True).run(Reader(Feed(chunks), DEFAULT))
            _dress(directory, level.fds[0])
        finally:
            level.close()
    except BadImage as error:
        raise BadImage("fill volume", target, error.cause, error.hint) from error
    finally:
        os.close(directory)


def _dress(directory: int, like: int) -> None:
    status = os.fstat(like)
    os.chown(directory, status.st_uid, status.st_gid)
    os.fchmod(directory, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(like):
        if kept(os.fsencode(name)):
            os.setxattr(directory, name, os.getxattr(like, name))
    os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


def _nothing() -> None:
    """No reason to stop."""
