"""Operations on /dev: the default devices and symlinks, and those of the config (config-linux.md, "Devices")."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from shimd.container.descent import descend
from shimd.container.making import Making
from shimd.linux import mounts, paths, processes

DEFAULT_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
DEFAULT_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


class DefaultDevices(NamedTuple):
    """The devices and links that every container has, on one fd of its own /dev (CVE-2026-41579).

    `bound`: its /dev is a bind, and holds what its owner wants: nothing is made in it.
    """

    bound: bool = False

    def describe(self) -> tuple[str, str]:
        return ("leave", "/dev as it was bound") if self.bound else ("create", "default devices in /dev")

    def execute(self, making: Making) -> None:
        if self.bound:
            return
        resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS
        try:
            os.mkdir("dev", 0o755, dir_fd=making.root_fd)
        except FileExistsError:
            pass
        directory = paths.openat2(making.root_fd, "dev", os.O_PATH | os.O_DIRECTORY, 0, resolve)
        try:
            for name, major, minor in DEFAULT_NODES:
                _node(directory, name, stat.S_IFCHR | 0o666, os.makedev(major, minor), f"/dev/{name}")
            for name, target in DEFAULT_LINKS:
                try:
                    os.symlink(target, name, dir_fd=directory)
                except FileExistsError:
                    continue  # the image or a bind brought its own
        finally:
            os.close(directory)


class HoldNode(NamedTuple):
    """shim: the node of a device for a container in a user namespace of its own, which may not make one there.

    It stands on a tmpfs that goes with its last mount, as user and group (the machine's ids) and mode have it, and init
    binds it. A runtime without the right to make nodes leaves it at the machine's own.
    """

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> tuple[str, str]:
        return "prepare device", self.path

    def execute(self, making: Making) -> None:
        try:
            making.trees[node_key(self.path)] = descend(self._make_aside)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise

    def _make_aside(self) -> int:
        """In a child with mounts of its own: before Linux 6.15 what is attached nowhere cannot be cloned."""
        processes.unshare(processes.CLONE_NEWNS)
        mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
        mounts.mount("tmpfs", "/proc", "tmpfs", mounts.MS_NOSUID | mounts.MS_NOEXEC, "mode=755,size=4k")
        os.umask(0)
        os.mknod("/proc/node", KINDS[self.kind] | self.mode, os.makedev(self.major, self.minor))
        os.chown("/proc/node", self.uid, self.gid)
        return mounts.open_tree(mounts.AT_FDCWD, "/proc/node", mounts.OPEN_TREE_CLONE)

    def undo(self, making: Making) -> None:
        """It ends with its fd."""


def node_key(path: str) -> str:
    """HoldNode's among `Making.trees`; no path, which begins with a slash."""
    return f"device {path}"


class MakeDevice(NamedTuple):
    """One device of the config; uid and gid are the container's."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def describe(self) -> tuple[str, str]:
        return "create device", self.path

    def execute(self, making: Making) -> None:
        parent, _, name = self.path.rstrip("/").rpartition("/")
        directory = paths.make_directory_in_root(making.root_fd, parent)
        held = making.trees.pop(node_key(self.path), -1)
        try:
            number, mode = os.makedev(self.major, self.minor), KINDS[self.kind] | self.mode
            if held < 0:
                _node(directory, name, mode, number, self.path)
            elif not _is_there(directory, name, mode, number):
                _attach(held, directory, name)
            if held < 0 and (self.uid or self.gid):
                os.chown(name, self.uid, self.gid, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
            if held >= 0:
                os.close(held)


def _node(directory: int, name: str, mode: int, number: int, host_path: str) -> None:
    """mknod; where the kernel forbids it (a user namespace), a bind of the machine's node."""
    try:
        os.mknod(name, mode, number, dir_fd=directory)
    except FileExistsError:
        if not _is_there(directory, name, mode, number):
            raise
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        _bind_node(directory, name, number, host_path)


def _is_there(directory: int, name: str, mode: int, number: int) -> bool:
    """Is this device there already? (A file that is none is not.)"""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return found.st_rdev == number and stat.S_IFMT(found.st_mode) == stat.S_IFMT(mode)


def _bind_node(directory: int, name: str, number: int, host_path: str) -> None:
    tree = mounts.open_tree(mounts.AT_FDCWD, host_path, mounts.OPEN_TREE_CLONE)
    try:
        if os.fstat(tree).st_rdev != number:
            raise OSError(errno.EPERM, "the machine's node is another device", host_path)
        _attach(tree, directory, name)
    finally:
        os.close(tree)


def _attach(tree: int, directory: int, name: str) -> None:
    """A node's detached mount on a new file. A node needs no more than to be one: neither set-id bits nor to run."""
    mounts.mount_setattr(tree, "", set_=mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC)
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory))
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        mounts.move_mount(tree, target)
    finally:
        os.close(target)
