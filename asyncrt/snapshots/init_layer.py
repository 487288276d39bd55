"""The init layer: what the root of every container has of its own, whatever its image has there.

    ROOT/layers/init/KEY/etc/hosts          loopback's names
    ROOT/layers/init/KEY/etc/resolv.conf    the machine's, as it was when the container was started
    ROOT/layers/init/KEY/etc/hostname       a symlink to /proc/sys/kernel/hostname

It is one more lower layer, right below what the container writes, and shared by all who need the same: a container that
changes a file changes a copy of its own. So no container costs more than one more layer of its mount; three binds cost
more than the rest of a start, three files of its own a tenth of it (docs/decisions/0022-init-layer.md). What PATHS
names is in no diff and in no image, whoever wrote it there.

Nothing of it is ever changed or, while there are containers, removed: a mount may stand on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from pathlib import Path
from typing import NamedTuple

from asyncrt.errors import StorageFailed
from asyncrt.snapshots import removal
from asyncrt.snapshots.sources import Source
from asyncrt.snapshots.stack import stacked

PATHS = frozenset((b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"))
MOST_RESOLV = 64 * 1024  # bytes of the machine's that are taken over

_HOSTNAME = "/proc/sys/kernel/hostname"
_HOSTS = b"""\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_numbers = itertools.count(1)


class Etc(NamedTuple):
    """The image's /etc, which this one hides: overlay shows the uppermost's owner, mode, xattrs and times."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    times: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, bytes], ...] = ()


class InitLayers:
    """The init layers in `directory`. Methods block."""

    def __init__(self, directory: Path, resolv: Path = Path("/etc/resolv.conf")) -> None:
        self.directory = directory
        self._resolv = resolv

    def under(self, source: Source) -> Source:
        """`source` with its init layer. As it was where the image's /etc is no directory (a symlink, a file).

        `host:` has none either, nor another root that the engine's own directory lies in: overlayfs refuses a layer
        that lies in another (ELOOP). StorageFailed: the disk refuses, or a layer of the image is gone.
        """
        try:
            if os.path.commonpath((source.path, os.path.realpath(self.directory))) == source.path:
                return source
            etc = _etc_of(source)
            return source if etc is None else source._replace(init=self._have(etc, _read(self._resolv)))
        except OSError as error:
            raise StorageFailed("make init layer of", source.path, (error.strerror or str(error)).lower()) from error

    def _have(self, etc: Etc, resolv: bytes) -> str:
        key = hashlib.sha256(repr((etc, resolv, _HOSTS)).encode()).hexdigest()[:32]
        place = f"{self.directory}/{key}"
        if not os.path.isdir(place):
            os.makedirs(self.directory, 0o700, exist_ok=True)
            made = f"{self.directory}/new.{os.getpid()}.{next(_numbers)}"
            os.mkdir(made, 0o700)
            os.mkdir(f"{made}/etc", 0o700)
            directory = os.open(f"{made}/etc", _DIRECTORY)
            try:
                write(directory, etc, resolv)
            finally:
                os.close(directory)
            with contextlib.suppress(FileExistsError):  # by another thread, meanwhile: ours is swept
                os.rename(made, place)
        return place

    def sweep(self, all: bool) -> None:
        """Remove what a crash left half made; with `all`, when there are no containers, everything."""
        try:
            directory = os.open(self.directory, _DIRECTORY)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(directory):
                if all or name.startswith("new."):
                    removal.remove_tree(directory, name, str(self.directory))
        finally:
            os.close(directory)


def write(directory: int, etc: Etc, resolv: bytes) -> None:
    """The files, into an empty directory (an fd), which becomes the /etc of a root. OSError."""
    for name, data in (("hosts", _HOSTS), ("resolv.conf", resolv)):
        file = os.open(name, _NEW, 0o644, dir_fd=directory)
        try:
            os.write(file, data)
            os.fchmod(file, 0o644)  # the supervisor's umask cut it
        finally:
            os.close(file)
    os.symlink(_HOSTNAME, "hostname", dir_fd=directory)
    if etc.uid or etc.gid:
        os.chown(directory, etc.uid, etc.gid)
    os.chmod(directory, etc.mode)
    for name, value in etc.xattrs:
        os.setxattr(directory, name, value)
    os.utime(directory, ns=etc.times)


def _etc_of(source: Source) -> Etc | None:
    """The /etc of a root; None if it has something else there."""
    fds = [os.open(path, _DIRECTORY) for path in (source.path, *source.below)]
    try:
        with stacked(fds) as root:
            found = root.look(b"etc")
            if found is None:
                return Etc()
            if not stat.S_ISDIR(found[1].st_mode):
                return None
            directory = os.open(b"etc", _DIRECTORY, dir_fd=found[0])
    finally:
        for fd in fds:
            os.close(fd)
    try:
        status = os.fstat(directory)
        names = [name for name in os.listxattr(directory) if not name.startswith("trusted.overlay.")]
        xattrs = tuple((name, os.getxattr(directory, name)) for name in names)
        times = 0, status.st_mtime_ns  # reading it changes the other one
        return Etc(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, times, xattrs)
    finally:
        os.close(directory)


def _read(path: Path) -> bytes:
    """The machine's own; empty where it has none, as on a machine without a network."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(file, MOST_RESOLV) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)
