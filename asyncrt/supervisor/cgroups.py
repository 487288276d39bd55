"""The parent of all containers' cgroups, and what a dead shim left in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from asyncrt.errors import StorageFailed
from shimd.linux import cgroups

DEFAULT_STATE = "/run/asyncrt"
# Docker's device rules (v1 syntax): every container inherits them from the parent, so none has to write them.
# mknod is allowed for all, use only for what a container needs; ptys are 5:2 and 136:*.
DEVICE_RULES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)


def parent_for(state: Path) -> str:
    """The cgroup of one supervisor: /asyncrt, or with a hash behind where several live side by side."""
    if str(state) == DEFAULT_STATE:
        return "/asyncrt"
    return f"/asyncrt-{hashlib.sha256(os.fsencode(state)).hexdigest()[:12]}"


class Cgroups:
    """All paths are below each hierarchy's mount point."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.hierarchies = cgroups.hierarchies()

    def open(self) -> None:
        """Make the parent. StorageFailed if this machine lets nobody make cgroups."""
        if not self.hierarchies:
            raise StorageFailed("find", "cgroups", "none are mounted", "mount cgroup2 on /sys/fs/cgroup")
        for hierarchy in self.hierarchies:
            try:
                cgroups.make_parent(hierarchy, self.parent)
                if "devices" in hierarchy.controllers and hierarchy.version == 1:
                    self._limit_devices(hierarchy.mount + self.parent)
            except OSError as error:
                cause = (error.strerror or str(error)).lower()
                hint = "is the hierarchy read-only, or owned by another manager?"
                raise StorageFailed("create cgroup", hierarchy.mount + self.parent, cause, hint) from error

    def _limit_devices(self, directory: str) -> None:
        if any(entry.is_dir() for entry in os.scandir(directory)):
            return  # containers of a killed supervisor live: v1 refuses to narrow a parent, and it is narrow already
        cgroups.write(directory, "devices.deny", "a")
        for rule in DEVICE_RULES:
            cgroups.write(directory, "devices.allow", rule)

    def of(self, id: str) -> str:
        """The cgroup path of a container."""
        return f"{self.parent}/{id}"

    def ids(self) -> set[str]:
        """The containers that have a cgroup somewhere. O(all): for the recovery alone."""
        found: set[str] = set()
        for hierarchy in self.hierarchies:
            with contextlib.suppress(FileNotFoundError), os.scandir(hierarchy.mount + self.parent) as entries:
                found.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return found

    def destroy(self, id: str) -> list[str]:
        """Kill what lives in a container's cgroups and remove them; what would not go, by name."""
        left: list[str] = []
        for hierarchy in self.hierarchies:
            directory = hierarchy.mount + self.of(id)
            try:
                cgroups.kill(hierarchy, directory)
                cgroups.remove(directory)
            except OSError as error:
                left.append(f"cgroup {directory} ({(error.strerror or '').lower()})")
        return left

    def close(self) -> None:
        """Remove the parent if nothing lives in it."""
        for hierarchy in self.hierarchies:
            with contextlib.suppress(OSError):  # EBUSY: containers go on, and so does their parent
                os.rmdir(hierarchy.mount + self.parent)
