"""Operations on the root of a container that lives in others' mounts: the runtime's, or a namespace that it joins."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.making import Making
from shimd.linux import mounts
from shimd.linux.mounts import AT_RECURSIVE, MS_PRIVATE, MS_UNBINDABLE, OPEN_TREE_CLONE


class BindRoot(NamedTuple):
    """shim: bind the root directory on itself, for a container that lives in the runtime's own mounts.

    What is mounted below it goes with it when the container ended. It is marked as unbindable: what an engine had
    mounted there before is not taken for it.
    """

    path: str

    def describe(self) -> tuple[str, str]:
        return "bind on itself", self.path

    def execute(self, making: Making) -> None:
        place = _open_root(self.path, making)
        try:
            os.close(_bind_on_itself(place))
        finally:
            os.close(place)

    def undo(self, making: Making) -> None:
        path = os.path.realpath(_root_path(self.path, making))
        if "unbindable" in mounts.optional_fields(path):
            mounts.umount2(path, mounts.MNT_DETACH)


class OpenRoot(NamedTuple):
    """init: the root that BindRoot made, or the one of the mount namespace that was joined."""

    path: str
    bind: bool

    def describe(self) -> tuple[str, str]:
        return "open", "the root file system"

    def execute(self, making: Making) -> None:
        making.root_fd = _open_root(self.path, making)
        if self.bind:
            place, making.root_fd = making.root_fd, _bind_on_itself(making.root_fd)
            os.close(place)


def _root_path(path: str, making: Making) -> str:
    return making.root[0].lower[0] if making.root else path


def _open_root(path: str, making: Making) -> int:
    if making.root and making.root[0].kind != "bind":
        raise OSError(errno.EINVAL, "layers need a mount namespace of the container's own")
    path = _root_path(path, making)
    if os.path.samestat(os.stat(path), os.stat("/")):
        raise OSError(errno.EINVAL, "the machine's own root needs a mount namespace of the container's own", path)
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _bind_on_itself(place: int) -> int:
    tree = mounts.open_tree(place, "", OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | AT_RECURSIVE)
    mounts.mount_setattr(tree, "", propagation=MS_PRIVATE, recursive=True)
    mounts.move_mount(tree, place)
    mounts.mount_setattr(tree, "", propagation=MS_UNBINDABLE)  # not before: it may be a shared mount that it is put on
    return tree


class ChangeRoot(NamedTuple):
    """Change the root by chroot(2), which hides the machine's mounts but cannot drop them: others live in them."""

    def describe(self) -> tuple[str, str]:
        return "change to", "the root file system"

    def execute(self, making: Making) -> None:
        os.fchdir(making.root_fd)
        os.chroot(".")
        os.chdir("/")
