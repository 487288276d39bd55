"""A tmpfs that takes after the directory that it hides: its mode, and with `tmpcopyup` all that is in it."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from shimd.container.making import Making
from shimd.container.mounts import directory_of, make_filesystem
from shimd.linux import mounts, paths

CHUNK = 1 << 20
MOST_LEVELS = 200
# Not to be held up by a fifo that was put there meanwhile.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
KEPT_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_")


class MountTmpfs(NamedTuple):
    """Mount a tmpfs. Where the options give no mode, it has the mode of the directory that was there.

    The copy works on directory fds and follows nothing; files of several names become several files. With a `seal` the
    mount is kept under this key for SealTmpfs: what is mounted and made below it comes before it is read-only.
    """

    destination: str
    source: str
    attributes: int
    parameters: tuple[tuple[str, str | None], ...]
    propagation: int
    copy_up: bool
    seal: str = ""

    def describe(self) -> tuple[str, str]:
        return "mount", f"tmpfs on {self.destination}"

    def execute(self, making: Making) -> None:
        try:
            target = paths.open_in_root(making.root_fd, self.destination, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            target, found = directory_of(making, self.destination), False
        else:
            found = True
        try:
            parameters = self.parameters
            if found and not any(key == "mode" for key, _ in parameters):
                parameters = (*parameters, ("mode", f"{stat.S_IMODE(os.fstat(target).st_mode):o}"))
            tree = make_filesystem("tmpfs", self.source, 0, parameters)
            try:
                if self.copy_up:
                    self._fill(target, tree)
                if self.attributes:
                    mounts.mount_setattr(tree, "", set_=self.attributes, clear=_atime_mask(self.attributes))
                mounts.move_mount(tree, target)
                if self.propagation:
                    mounts.mount_setattr(tree, "", propagation=self.propagation)
                if self.seal:
                    making.trees[self.seal] = os.dup(tree)
            finally:
                os.close(tree)
        finally:
            os.close(target)

    def _fill(self, target: int, tree: int) -> None:
        # Both are O_PATH fds: opened again to be read.
        origin = os.open(".", READ | os.O_DIRECTORY, dir_fd=target)
        place = os.open(".", READ | os.O_DIRECTORY, dir_fd=tree)
        try:
            _copy_directory(origin, place, MOST_LEVELS)
            if not any(key in ("uid", "gid") for key, _ in self.parameters):
                found = os.fstat(origin)
                mode = stat.S_IMODE(os.fstat(place).st_mode)
                os.fchown(place, found.st_uid, found.st_gid)
                os.fchmod(place, mode)
        finally:
            os.close(origin)
            os.close(place)


class SealTmpfs(NamedTuple):
    """Make a tmpfs read-only that was kept writable until all is in its place (`ro` of a /dev)."""

    seal: str
    destination: str

    def describe(self) -> tuple[str, str]:
        return "make read-only", f"tmpfs on {self.destination}"

    def execute(self, making: Making) -> None:
        tree = making.trees.pop(self.seal)
        try:
            mounts.mount_setattr(tree, "", set_=mounts.MOUNT_ATTR_RDONLY)
        finally:
            os.close(tree)


def _atime_mask(attributes: int) -> int:
    """mount_setattr(2) takes an atime mode with the whole mask in attr_clr alone."""
    return mounts.MOUNT_ATTR_ATIME if attributes & mounts.MOUNT_ATTR_ATIME else 0


def _copy_directory(origin: int, place: int, levels: int) -> None:
    if not levels:
        raise OSError(errno.ENAMETOOLONG, f"what is to be copied is nested deeper than {MOST_LEVELS} directories")
    with os.scandir(origin) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        found = os.stat(name, dir_fd=origin, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=place)
            below = os.open(name, READ | os.O_DIRECTORY, dir_fd=origin)
            here = os.open(name, READ | os.O_DIRECTORY, dir_fd=place)
            try:
                _copy_directory(below, here, levels - 1)
                _copy_look(below, here)
            finally:
                os.close(below)
                os.close(here)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(origin, place, name)
        else:
            if stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(name, dir_fd=origin), name, dir_fd=place)
            else:
                os.mknod(name, found.st_mode, found.st_rdev, dir_fd=place)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=place, follow_symlinks=False)


def _copy_file(origin: int, place: int, name: str) -> None:
    source = os.open(name, READ, dir_fd=origin)
    try:
        copy = os.open(name, CREATE, 0o600, dir_fd=place)
        try:
            while os.sendfile(copy, source, None, CHUNK):
                continue
            _copy_look(source, copy)
        finally:
            os.close(copy)
    finally:
        os.close(source)


def _copy_look(source: int, copy: int) -> None:
    """Owner, attributes, mode, times: in this order one does not undo another (chown(2), NOTES)."""
    found = os.fstat(source)
    os.fchown(copy, found.st_uid, found.st_gid)
    for attribute in os.listxattr(source):
        if attribute.startswith(KEPT_ATTRIBUTES):
            try:
                os.setxattr(copy, attribute, os.getxattr(source, attribute))
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:  # a tmpfs before Linux 6.6 keeps no user.*
                    raise
    os.fchmod(copy, stat.S_IMODE(found.st_mode))
    os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
