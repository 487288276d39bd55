"""Operations on the root file system: mount it, seal it, change to it."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.descent import descend
from shimd.container.making import Making
from shimd.linux import mounts, processes
from shimd.linux.mounts import AT_RECURSIVE, MOUNT_ATTR_RDONLY, MS_PRIVATE, OPEN_TREE_CLONE
from shimd.wire.messages import RootMount


class MountRoot(NamedTuple):
    """Mount what the root is made of onto the anchor: overlay layers, or a bind of one directory.

    Both are made without a path and attached once, inside the container's namespace: the machine's mount table
    does not grow with the number of containers. `propagation` MS_SLAVE: a bound root hears of the machine's mounts.
    """

    path: str = ""
    propagation: int = MS_PRIVATE

    def describe(self) -> tuple[str, str]:
        return "mount", "the root file system"

    def execute(self, making: Making) -> None:
        recipe = making.root[0] if making.root else RootMount("bind", [self.path])
        if recipe.kind == "overlay" and not one_by_one(recipe):
            making.root_fd = overlay_of_options(recipe, making)
            return
        anchor = os.open(making.anchors.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            tree = overlay(recipe, making) if recipe.kind == "overlay" else bind(recipe, making, self.propagation)
            mounts.move_mount(tree, anchor)
        finally:
            os.close(anchor)
        making.root_fd = tree


def detached(recipe: RootMount, making: Making, propagation: int) -> int:
    """The root's mount, attached nowhere, made by a process that shares its mounts with others.

    Where the kernel makes such an overlay only by way of places in a namespace, that namespace is a child's, which
    ends at once.
    """
    if recipe.kind != "overlay":
        return bind(recipe, making, propagation)
    needs_places = any(layer in making.trees for layer in recipe.lower) and not fd_layers()
    if one_by_one(recipe) and not needs_places:
        return overlay(recipe, making)
    return descend(lambda: _aside(recipe, making))


def _aside(recipe: RootMount, making: Making) -> int:
    processes.unshare(processes.CLONE_NEWNS)
    mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=MS_PRIVATE, recursive=True)
    if one_by_one(recipe):
        return overlay(recipe, making)
    attached = overlay_of_options(recipe, making)
    return mounts.open_tree(attached, "", OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)


def bind(recipe: RootMount, making: Making, propagation: int = MS_PRIVATE) -> int:
    """A detached, private copy of the mount that the directory is on."""
    source = recipe.lower[0]
    tree = making.trees.pop(source, -1)
    if tree < 0:
        tree = mounts.open_tree(mounts.AT_FDCWD, source, OPEN_TREE_CLONE | AT_RECURSIVE)
    mounts.mount_setattr(tree, "", propagation=propagation, recursive=True)
    return tree


def overlay(recipe: RootMount, making: Making) -> int:
    """A detached overlay; layers one by one (`lowerdir+`, Linux 6.7), so that no 4 KiB of options bound them."""
    fds = [(layer, making.trees.get(layer, -1)) for layer in recipe.lower]
    if any(fd >= 0 for _, fd in fds) and not fd_layers():
        fds = [(_attach(fd, making) if fd >= 0 else layer, -1) for layer, fd in fds]
    configuration = mounts.fsopen("overlay")
    try:
        mounts.fsconfig_string(configuration, "source", "overlay")
        for layer, fd in fds:
            if fd >= 0:
                mounts.fsconfig_fd(configuration, "lowerdir+", fd)
            else:
                mounts.fsconfig_string(configuration, "lowerdir+", layer)
        if recipe.upper:
            mounts.fsconfig_string(configuration, "upperdir", recipe.upper)
            mounts.fsconfig_string(configuration, "workdir", recipe.work)
        mounts.fsconfig_create(configuration)
        return mounts.fsmount(configuration, 0)
    except OSError as error:
        words = mounts.log(configuration)
        raise OSError(error.errno, words or error.strerror, "overlay") from None
    finally:
        os.close(configuration)


def overlay_of_options(recipe: RootMount, making: Making) -> int:
    """The overlay where overlay() cannot make it: by mount(2) on the anchor, all its paths in one page of options."""
    layers = [_attach(making.trees[layer], making) if layer in making.trees else layer for layer in recipe.lower]
    directories = [*layers, recipe.upper, recipe.work] if recipe.upper else layers
    options = _options(directories, len(layers))
    fds: list[int] = []
    try:
        if len(options) > mounts.OPTIONS_BYTES:  # then by fds, whose names are short
            for directory in directories:
                fds.append(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            options = _options([f"/proc/self/fd/{fd}" for fd in fds], len(layers))
        if len(options) > mounts.OPTIONS_BYTES:
            raise OSError(errno.E2BIG, f"{len(layers)} layers are more than one page of options holds", "overlay")
        mounts.mount("overlay", making.anchors.root, "overlay", 0, os.fsdecode(options))
    finally:
        for fd in fds:
            os.close(fd)
    return os.open(making.anchors.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _options(directories: list[str], layers: int) -> bytes:
    """Lower directories first, then perhaps upper and work, with the escapes of overlay's own parser."""
    escaped = [directory.replace("\\", "\\\\").replace(",", "\\,") for directory in directories]
    lower = ":".join(directory.replace(":", "\\:") for directory in escaped[:layers])
    words = [f"lowerdir={lower}"]
    words += [f"{key}={directory}" for key, directory in zip(("upperdir", "workdir"), escaped[layers:], strict=False)]
    return os.fsencode(",".join(words))


def one_by_one(recipe: RootMount) -> bool:
    """Can fsconfig(2) take this overlay, each path as a string of its own?"""
    paths = (*recipe.lower, recipe.upper, recipe.work)
    return mounts.overlay_appends() and all(len(os.fsencode(path)) <= mounts.STRING_BYTES for path in paths)


def fd_layers() -> bool:
    """Does overlay take layers as fds on detached mounts? Linux 6.15 and later do (kernel commit db04662e2f4f)."""
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1].partition("-")[0])) >= (6, 15)


def _attach(tree: int, making: Making) -> str:
    """Give a detached layer a path in the container's own namespace, for kernels that want one.

    All layers stand one upon the other on one anchor; each is named by its fd, which the ones above do not hide.
    """
    anchor = os.open(making.anchors.lower, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mounts.move_mount(tree, anchor)
    finally:
        os.close(anchor)
    return f"/proc/self/fd/{tree}"


class PropagateRoot(NamedTuple):
    """Make the container's root what `rootfsPropagation` says, once nothing of the machine can hear of it.

    MS_SHARED begins a peer group of the container's own (config-linux.md, "Rootfs Mount Propagation": it "does not
    mean that it's shared with the host").
    """

    propagation: int
    recursive: bool

    def describe(self) -> tuple[str, str]:
        return "set propagation of", "the root file system"

    def execute(self, making: Making) -> None:
        mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=self.propagation, recursive=self.recursive)


class DropKernelViews(NamedTuple):
    """Unmount the machine's procfs and sysfs, for a root that does not come by pivot_root(2) (`--no-pivot`).

    They would stay in the mount table, whole and unmasked, and the kernel takes that for leave to mount others in a
    user namespace made inside (mount_namespaces(7), "Restrictions on mount namespaces"). What cannot be unmounted,
    since another user namespace locked it, is covered.
    """

    def describe(self) -> tuple[str, str]:
        return "unmount", "the machine's procfs and sysfs"

    def execute(self, making: Making) -> None:
        below = f"{making.anchors.root}/"
        for place in mounts.places_of(("proc", "sysfs")):
            if place.startswith(below):
                continue
            try:
                mounts.umount2(place, mounts.MNT_DETACH)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM):
                    raise
                mounts.mount("tmpfs", place, "tmpfs", mounts.MS_RDONLY, "size=0")


class SealRoot(NamedTuple):
    """Make the root file system's own mount read-only, after its mount points were made."""

    def describe(self) -> tuple[str, str]:
        return "make read-only", "the root file system"

    def execute(self, making: Making) -> None:
        mounts.mount_setattr(making.root_fd, "", set_=MOUNT_ATTR_RDONLY)


class PivotRoot(NamedTuple):
    """Change the root and drop the machine's mounts (pivot_root(2), "pivot_root(".", ".")")."""

    def describe(self) -> tuple[str, str]:
        return "change to", "the root file system"

    def execute(self, making: Making) -> None:
        os.fchdir(making.root_fd)
        mounts.pivot_root(".", ".")
        mounts.umount2(".", mounts.MNT_DETACH)
        os.chdir("/")


class MoveRoot(NamedTuple):
    """The way without pivot_root(2), which a root on the kernel's first ramfs refuses (--no-pivot).

    The old root stays in the mount table below the new one, out of reach of a path but not of a process that may
    mount: weaker, and for such machines alone.
    """

    def describe(self) -> tuple[str, str]:
        return "move to /", "the root file system"

    def execute(self, making: Making) -> None:
        os.fchdir(making.root_fd)
        mounts.mount(".", "/", "", mounts.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
