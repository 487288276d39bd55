"""What a container's mounts are made of, taken hold of before the container is born.

Init opens most sources itself. It cannot, or comes too late, where

- it lives in a user namespace: to the machine it is a stranger, and stops at the first directory of mode 0700;
- a bind is id-mapped: that takes the right over the source's own file system (mount_setattr(2), MOUNT_ATTR_IDMAP);
- a bind is to share mounts with the machine, or to hear of them: a copy of init's copies has other peers.

There the runtime makes a detached copy (outside steps, the machine's rights and mounts), and init attaches it.
A detached copy ends with the last fd on it, so there is nothing to undo.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from shimd.container import root
from shimd.container.making import Making
from shimd.container.mounts import attach
from shimd.linux import mounts, paths, processes, procfs
from shimd.linux.mounts import AT_RECURSIVE, MOUNT_ATTR_IDMAP, MS_PRIVATE, MS_SHARED, MS_SLAVE, OPEN_TREE_CLONE
from shimd.wire.messages import RootMount


class HoldRoot(NamedTuple):
    """shim: make the root file system, attached nowhere yet."""

    path: str = ""
    propagation: int = MS_PRIVATE

    def describe(self) -> tuple[str, str]:
        return "prepare", "the root file system"

    def execute(self, making: Making) -> None:
        recipe = making.root[0] if making.root else RootMount("bind", [self.path])
        making.root_fd = root.detached(recipe, making, self.propagation)

    def undo(self, making: Making) -> None:
        """It ends with its fd."""


class AttachRoot(NamedTuple):
    """init: attach what HoldRoot made, over the machine's root: that is one place which every user can open."""

    def describe(self) -> tuple[str, str]:
        return "mount", "the root file system"

    def execute(self, making: Making) -> None:
        place = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.move_mount(making.root_fd, place)
        finally:
            os.close(place)


class IdMap(NamedTuple):
    """How a mount shows the ids of its file system: lines of uid_map and gid_map, or a user namespace by path."""

    uid_map: str
    gid_map: str
    path: str
    recursive: bool


class Attributes(NamedTuple):
    """MOUNT_ATTR_* of the mount, and of it with all that is mounted below."""

    set: int = 0
    clear: int = 0
    recursive_set: int = 0
    recursive_clear: int = 0


class HoldTree(NamedTuple):
    """shim: a detached copy of the source of one bind, with all that is asked of it; `key` is AttachTree's.

    propagation: MS_PRIVATE and MS_SLAVE go for all that is below as well. MS_SHARED leaves the copy what it is, a
    peer of its source, except for `strangers`: containers in a user namespace hear of the machine's mounts and
    never add to them, as mount_namespaces(7) has it for less privileged mount namespaces.
    """

    key: str
    source: str
    destination: str
    recursive: bool
    attributes: Attributes
    propagation: int
    propagation_recursive: bool
    strangers: bool
    idmap: IdMap | None
    nofollow: bool = False
    copy_symlink: bool = False
    """Where the source is a symlink: hold it as it is, and AttachTree makes one that says the same."""

    def describe(self) -> tuple[str, str]:
        return "open", f"{self.source} to bind on {self.destination}"

    def execute(self, making: Making) -> None:
        if self.copy_symlink and os.path.islink(self.source):
            making.trees[self.key] = os.open(self.source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            return
        tree = making.trees.pop(self.source, -1)
        if tree < 0:
            flags = OPEN_TREE_CLONE | (AT_RECURSIVE if self.recursive else 0)
            flags |= mounts.AT_SYMLINK_NOFOLLOW if self.nofollow or self.copy_symlink else 0
            tree = mounts.open_tree(mounts.AT_FDCWD, self.source, flags)
        making.trees[self.key] = tree
        if self.idmap is not None:
            _map_ids(tree, self.idmap)
        asked = self.attributes
        if asked.recursive_set or asked.recursive_clear:
            mounts.mount_setattr(tree, "", set_=asked.recursive_set, clear=asked.recursive_clear, recursive=True)
        if asked.set or asked.clear:
            mounts.mount_setattr(tree, "", set_=asked.set, clear=asked.clear)
        if self.propagation != MS_SHARED:
            mounts.mount_setattr(tree, "", propagation=self.propagation, recursive=True)
            return
        if self.strangers:
            mounts.mount_setattr(tree, "", propagation=MS_SLAVE, recursive=True)
        mounts.mount_setattr(tree, "", propagation=MS_SHARED, recursive=self.propagation_recursive)

    def undo(self, making: Making) -> None:
        """It ends with its fd."""


class AttachTree(NamedTuple):
    """init: attach the copy that HoldTree made."""

    key: str
    source: str
    destination: str
    nofollow: bool = False
    copy_symlink: bool = False

    def describe(self) -> tuple[str, str]:
        return "bind", f"{self.source} on {self.destination}"

    def execute(self, making: Making) -> None:
        tree = making.trees.pop(self.key)
        try:
            if self.copy_symlink and stat.S_ISLNK(os.fstat(tree).st_mode):
                _make_link(os.readlink("", dir_fd=tree), making, self.destination)
            elif self.nofollow:
                _attach_here(tree, making, self.destination)
            else:
                attach(tree, making, self.destination)
        finally:
            os.close(tree)


def _make_link(target: str, making: Making, destination: str) -> None:
    """A symlink of the container's own; one that says the same may be there."""
    parent, name = _split(making, destination)
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        try:
            same = os.readlink(name, dir_fd=parent) == target
        except OSError:  # it is none
            same = False
        if not same:
            raise
    finally:
        os.close(parent)


def _attach_here(tree: int, making: Making, destination: str) -> None:
    """On what stands at the place itself, be it a symlink. Not in procfs, whose links are doors."""
    parent, name = _split(making, destination)
    try:
        if procfs.file_system(parent) == procfs.MAGIC:
            raise OSError(errno.EPERM, "nothing is mounted on a link of procfs", destination)
        if not _is_there(parent, name):
            attach(tree, making, destination)
            return
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            mounts.move_mount(tree, target)
        finally:
            os.close(target)
    finally:
        os.close(parent)


def _is_there(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _split(making: Making, destination: str) -> tuple[int, str]:
    """An fd on the directory, made if it is missing, and the last component."""
    parent, _, name = os.path.normpath(destination).rpartition("/")
    if not name:
        raise OSError(errno.EINVAL, "the root is no place for it", destination)
    return paths.make_directory_in_root(making.root_fd, parent), name


def _map_ids(tree: int, idmap: IdMap) -> None:
    if idmap.path:
        namespace = os.open(idmap.path, os.O_RDONLY | os.O_CLOEXEC)
    else:
        namespace = processes.user_namespace(idmap.uid_map, idmap.gid_map)
    try:
        mounts.mount_setattr(tree, "", set_=MOUNT_ATTR_IDMAP, userns=namespace, recursive=idmap.recursive)
    except OSError as error:
        if error.errno == errno.EINVAL:  # each file system learned it on its own: tmpfs in 6.3, overlay in 6.12
            raise OSError(error.errno, "a file system there takes no id map on this kernel") from None
        raise
    finally:
        os.close(namespace)
