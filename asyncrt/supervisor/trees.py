"""Mounts of the machine as fds: the zygote's mount namespace holds only what every container needs.

What a container wants besides (a volume, a root directory on another file system) is opened here, in the machine's
own namespace and as it is now, as a detached copy that the container attaches (open_tree(2), move_mount(2)).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from asyncrt.errors import StorageFailed
from shimd.linux import mounts


class Trees:
    """Detached copies by path. `kept` are directories whose mounts the zygote has."""

    def __init__(self, kept: Sequence[Path]) -> None:
        self._kept = {mount_id(str(path)) for path in kept}

    def foreign(self, path: str) -> bool:
        """Does the path lie on a mount that the zygote does not have?"""
        return mount_id(path) not in self._kept

    def open(self, path: str, recursive: bool) -> int:
        """A detached copy; the caller closes it. StorageFailed if the path is gone."""
        try:
            flags = mounts.OPEN_TREE_CLONE | (mounts.AT_RECURSIVE if recursive else 0)
            return mounts.open_tree(mounts.AT_FDCWD, path, flags)
        except OSError as error:
            raise StorageFailed("open", path, (error.strerror or str(error)).lower()) from error


def mount_id(path: str) -> int:
    """The id of the mount that a path is on (proc_pid_fdinfo(5)); -1 if it cannot be opened."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        with open(f"/proc/self/fdinfo/{fd}") as file:
            for line in file:
                if line.startswith("mnt_id:"):
                    return int(line.split()[1])
    finally:
        os.close(fd)
    return -1
