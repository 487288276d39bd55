"""Operations on mounts, done by init in its own mount namespace before the root changes.

Every target is opened once inside the container's root (openat2, RESOLVE_IN_ROOT) and mounted on by fd, so that a
symlink that somebody swaps in meanwhile leads nowhere (CVE-2021-30465).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from shimd.container.descent import descend
from shimd.container.making import Making
from shimd.linux import mounts, paths, processes
from shimd.linux.cgroups import Hierarchy
from shimd.linux.mounts import AT_RECURSIVE, MOUNT_ATTR_RDONLY, OPEN_TREE_CLONE

UNSYMLINKED = ("proc", "sysfs")  # masks and read-only paths lie inside: these must be where they say they are
NULL_DEVICE = os.makedev(1, 3)
EMPTY = (("size", "0"), ("mode", "555"))  # a tmpfs in which nothing is and nothing can be made


class SetPropagation(NamedTuple):
    """Cut the copied mounts off from the machine's (rootfsPropagation: private or slave, always recursive).

    A zygote's mounts are private already, and so are the copies.
    """

    propagation: int

    def describe(self) -> tuple[str, str]:
        return "set propagation of", "/"

    def execute(self, making: Making) -> None:
        if self.propagation != mounts.MS_PRIVATE or not making.anchors.private:
            mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=self.propagation, recursive=True)


class MountFilesystem(NamedTuple):
    """Mount a file system: `parameters` are (key, value) for fsconfig, value None for a flag."""

    kind: str
    destination: str
    source: str
    attributes: int
    parameters: tuple[tuple[str, str | None], ...]
    propagation: int = 0

    def describe(self) -> tuple[str, str]:
        return "mount", f"{self.kind} on {self.destination}"

    def execute(self, making: Making) -> None:
        target = directory_of(making, self.destination, self.kind in UNSYMLINKED)
        try:
            tree = make_filesystem(self.kind, self.source, self.attributes, self.parameters)
            try:
                mounts.move_mount(tree, target)
                if self.propagation:
                    mounts.mount_setattr(tree, "", propagation=self.propagation)
            finally:
                os.close(tree)
        finally:
            os.close(target)


class BindMount(NamedTuple):
    """Bind a file or directory of the machine; `set` and `clear` are MOUNT_ATTR_* flags.

    Those that are recursive go for all that is mounted below the source as well (`rro`).
    """

    source: str
    destination: str
    recursive: bool
    set: int
    clear: int
    propagation: int
    recursive_set: int = 0
    recursive_clear: int = 0

    def describe(self) -> tuple[str, str]:
        return "bind", f"{self.source} on {self.destination}"

    def execute(self, making: Making) -> None:
        tree = making.trees.pop(self.source, -1)
        if tree < 0:
            flags = OPEN_TREE_CLONE | (AT_RECURSIVE if self.recursive else 0)
            tree = mounts.open_tree(mounts.AT_FDCWD, self.source, flags)
        try:
            # The clone joined its source's peer group: it leaves before anything is mounted below it.
            mounts.mount_setattr(
                tree,
                "",
                set_=self.recursive_set,
                clear=self.recursive_clear,
                propagation=self.propagation,
                recursive=True,
            )
            if self.set or self.clear:
                mounts.mount_setattr(tree, "", set_=self.set, clear=self.clear)
            attach(tree, making, self.destination)
        finally:
            os.close(tree)


def attach(tree: int, making: Making, destination: str) -> None:
    """Move a detached mount to a place in the root, which is made if it is missing: a directory, or a file."""
    directory = stat.S_ISDIR(os.fstat(tree).st_mode)
    target = directory_of(making, destination) if directory else paths.make_file_in_root(making.root_fd, destination)
    try:
        mounts.move_mount(tree, target)
    except OSError as error:
        if error.errno == errno.EINVAL and stat.S_ISDIR(os.fstat(target).st_mode) != directory:
            raise OSError(errno.ENOTDIR, "a file cannot be mounted on a directory", destination) from None
        raise
    finally:
        os.close(target)


class MountByOptions(NamedTuple):
    """Mount a file system by mount(2): what fsconfig(2) cannot say (strings beyond 255 bytes, flags of its own)."""

    kind: str
    destination: str
    source: str
    flags: int
    data: str
    propagation: int = 0

    def describe(self) -> tuple[str, str]:
        return "mount", f"{self.kind} on {self.destination}"

    def execute(self, making: Making) -> None:
        if len(os.fsencode(self.data)) > mounts.OPTIONS_BYTES:
            raise OSError(errno.E2BIG, "its options are longer than one page", self.destination)
        target = directory_of(making, self.destination, self.kind in UNSYMLINKED)
        try:
            tree = descend(self._make_aside)
            try:
                mounts.move_mount(tree, target)
                if self.propagation:
                    mounts.mount_setattr(tree, "", propagation=self.propagation)
            finally:
                os.close(tree)
        finally:
            os.close(target)

    def _make_aside(self) -> int:
        """In a child with mounts of its own, where it needs a place: one that is there, and nobody else looks at."""
        processes.unshare(processes.CLONE_NEWNS)
        mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
        mounts.mount(self.source, "/proc", self.kind, self.flags, self.data)
        return mounts.open_tree(mounts.AT_FDCWD, "/proc", OPEN_TREE_CLONE)


class Remount(NamedTuple):
    """Change a mount that is there: its attributes, and with `parameters` its file system.

    What the options do not name stays, and `ro` is the mount's own, as a remount of a bind has it: the file system
    itself may be the machine's as well, which must not become read-only with it.
    """

    destination: str
    set: int
    clear: int
    recursive_set: int
    recursive_clear: int
    parameters: tuple[tuple[str, str | None], ...]
    propagation: int
    propagation_recursive: bool

    def describe(self) -> tuple[str, str]:
        return "remount", self.destination

    def execute(self, making: Making) -> None:
        target = paths.open_in_root(making.root_fd, self.destination)
        try:
            if self.parameters:
                _reconfigure(target, self.parameters)
            if self.recursive_set or self.recursive_clear:
                mounts.mount_setattr(target, "", set_=self.recursive_set, clear=self.recursive_clear, recursive=True)
            mounts.mount_setattr(target, "", set_=self.set, clear=self.clear)
            if self.propagation:
                mounts.mount_setattr(target, "", propagation=self.propagation, recursive=self.propagation_recursive)
        finally:
            os.close(target)


def _reconfigure(target: int, parameters: tuple[tuple[str, str | None], ...]) -> None:
    configuration = mounts.fspick(target)
    try:
        _set_parameters(configuration, parameters)
        mounts.fsconfig_reconfigure(configuration)
    except OSError as error:
        words = mounts.log(configuration)
        raise OSError(error.errno, words or error.strerror) from None
    finally:
        os.close(configuration)


def _set_parameters(configuration: int, parameters: tuple[tuple[str, str | None], ...]) -> None:
    for key, value in parameters:
        if value is None:
            mounts.fsconfig_flag(configuration, key)
        else:
            mounts.fsconfig_string(configuration, key, value)


class CoverRoot(NamedTuple):
    """Go on in what was just mounted on the root itself: it is the container's root from here on.

    From a root directory `..` leads to what is mounted on it (path_resolution(7): "/.." is the same as "/").
    """

    def describe(self) -> tuple[str, str]:
        return "change to", "what was mounted on /"

    def execute(self, making: Making) -> None:
        covered = making.root_fd
        making.root_fd = paths.open_in_root(covered, "..", os.O_PATH | os.O_DIRECTORY)
        os.close(covered)


class MountCgroups(NamedTuple):
    """The container's own cgroups, seen as the roots of their hierarchies: one (v2), or a tmpfs full of them (v1).

    `whole`: the hierarchy of v2 as the machine has it, for a container without a cgroup namespace, whose
    /proc/self/cgroup counts from its root.
    """

    destination: str
    hierarchies: tuple[Hierarchy, ...]
    attributes: int
    whole: bool = False

    def describe(self) -> tuple[str, str]:
        return "mount", f"cgroup on {self.destination}"

    def execute(self, making: Making) -> None:
        target = directory_of(making, self.destination)
        try:
            if self.hierarchies and self.hierarchies[0].version == 2:
                tree = self._whole() if self.whole else self._own(self.hierarchies[0], making)
                mounts.mount_setattr(tree, "", set_=self.attributes)
                mounts.move_mount(tree, target)
                os.close(tree)
                return
            shelf = make_filesystem("tmpfs", "tmpfs", 0, (("mode", "755"), ("size", "64k")))
            mounts.move_mount(shelf, target)
            for hierarchy in self.hierarchies:
                self._shelve(hierarchy, shelf, making)
            mounts.mount_setattr(shelf, "", set_=self.attributes, recursive=True)
            os.close(shelf)
        finally:
            os.close(target)

    def _whole(self) -> int:
        return mounts.open_tree(mounts.AT_FDCWD, self.hierarchies[0].mount, OPEN_TREE_CLONE)

    @staticmethod
    def _own(hierarchy: Hierarchy, making: Making) -> int:
        return mounts.open_tree(mounts.AT_FDCWD, hierarchy.mount + making.cgroup, OPEN_TREE_CLONE)

    def _shelve(self, hierarchy: Hierarchy, shelf: int, making: Making) -> None:
        name = os.path.basename(hierarchy.mount)
        os.mkdir(name, 0o755, dir_fd=shelf)
        place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=shelf)
        tree = self._own(hierarchy, making)
        mounts.move_mount(tree, place)
        os.close(tree)
        os.close(place)
        for controller in hierarchy.controllers:
            if controller != name:  # "cpu,cpuacct" is found as cpu and as cpuacct
                os.symlink(name, controller, dir_fd=shelf)


class MaskPath(NamedTuple):
    """Hide a file behind the null device, a directory behind an empty one; a path that is not there needs no mask.

    `own`: the empty directory is the container's own; strangers cannot open the shared one.
    """

    path: str
    own: bool = False

    def describe(self) -> tuple[str, str]:
        return "mask", self.path

    def execute(self, making: Making) -> None:
        try:
            target = paths.open_in_root(making.root_fd, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            tree = _empty(making, self.own) if stat.S_ISDIR(os.fstat(target).st_mode) else null_device()
            try:
                mounts.move_mount(tree, target)
            finally:
                os.close(tree)
        finally:
            os.close(target)


class ReadonlyPath(NamedTuple):
    """Make a path read-only by a bind on itself; a path that is not there is left out."""

    path: str

    def describe(self) -> tuple[str, str]:
        return "make read-only", self.path

    def execute(self, making: Making) -> None:
        try:
            target = paths.open_in_root(making.root_fd, self.path)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            tree = mounts.open_tree(target, "", OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | AT_RECURSIVE)
            try:
                mounts.mount_setattr(tree, "", set_=MOUNT_ATTR_RDONLY, recursive=True)
                mounts.move_mount(tree, target)
            finally:
                os.close(tree)
        finally:
            os.close(target)


class MakeDirectory(NamedTuple):
    """A directory that the container expects (its cwd)."""

    path: str

    def describe(self) -> tuple[str, str]:
        return "create directory", self.path

    def execute(self, making: Making) -> None:
        os.close(paths.make_directory_in_root(making.root_fd, self.path))


def make_filesystem(kind: str, source: str, attributes: int, parameters: tuple[tuple[str, str | None], ...]) -> int:
    """A detached mount of a new superblock; the error carries the kernel's own words where it has some."""
    configuration = mounts.fsopen(kind)
    try:
        if source:
            mounts.fsconfig_string(configuration, "source", source)
        _set_parameters(configuration, parameters)
        mounts.fsconfig_create(configuration)
        return mounts.fsmount(configuration, attributes)
    except OSError as error:
        words = mounts.log(configuration)
        raise OSError(error.errno, words or error.strerror, kind) from None
    finally:
        os.close(configuration)


def null_device() -> int:
    """A detached bind of the machine's null device, proven to be that (CVE-2025-31133)."""
    fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISCHR(found.st_mode) or found.st_rdev != NULL_DEVICE:
            raise OSError(1, "it is not the null device", "/dev/null")
        return mounts.open_tree(fd, "", OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    finally:
        os.close(fd)


def _empty(making: Making, own: bool) -> int:
    if making.anchors.empty and not own:
        return mounts.open_tree(mounts.AT_FDCWD, making.anchors.empty, OPEN_TREE_CLONE)
    return make_filesystem("tmpfs", "tmpfs", MOUNT_ATTR_RDONLY, EMPTY)


def directory_of(making: Making, path: str, unsymlinked: bool = False) -> int:
    """The directory to mount on, made if it is missing."""
    if unsymlinked:
        resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_SYMLINKS
        try:
            flags = os.O_PATH | os.O_DIRECTORY
            return paths.openat2(making.root_fd, path.strip("/"), flags, 0, resolve)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(
                    error.errno, "it must be mounted on ordinary directory, not by way of a symlink"
                ) from None
            raise
    return paths.make_directory_in_root(making.root_fd, path)
