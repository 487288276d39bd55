"""The parent of all containers' cgroups, and what a dead shim left in it.

The parent carries the device rules, so that no start has to write them: on v1 a cgroup begins with its parent's rules
and can never have more, on v2 the programs of all cgroups above are asked as well (docs/decisions/0008).

A supervisor holds its parent by a lock on each of its directories, which the kernel lets go when it dies. A parent that
nobody holds and that is empty is what a killed supervisor left. If its state directory gets a supervisor again, that
one uses it. If not, the next one of this machine, whatever its own state directory is, removes it (`sweep`); but not
/asyncrt, which is the usual state directory's and waits for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from pathlib import Path

from asyncrt.errors import StorageFailed
from shimd.linux import bpf, cgroups, device_rules, freezer
from shimd.linux.cgroups import Hierarchy

DEFAULT_STATE = "/run/asyncrt"
DEVICE_RULES = (device_rules.Rule(False), *device_rules.DEFAULT)
_OURS = re.compile(r"asyncrt-[0-9a-f]{16}")  # 12 digits were a version's that locked nothing
_TRIES = 16  # against a sweeper that removes what was made and not locked yet


def parent_for(state: Path) -> str:
    """The cgroup of one supervisor: /asyncrt, or with a hash behind where several live side by side."""
    if str(state) == DEFAULT_STATE:
        return "/asyncrt"
    return f"/asyncrt-{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"


class Cgroups:
    """All paths are below each hierarchy's mount point."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.hierarchies = cgroups.hierarchies()
        self._held: list[int] = []

    def open(self) -> None:
        """Make the parent, hold it, and sweep. StorageFailed if this machine lets nobody make cgroups."""
        if not self.hierarchies:
            raise StorageFailed("find", "cgroups", "none are mounted", "mount cgroup2 on /sys/fs/cgroup")
        for hierarchy in self.hierarchies:
            directory = hierarchy.mount + self.parent
            try:
                self._hold(hierarchy, directory)
            except OSError as error:
                cause = (error.strerror or str(error)).lower()
                hint = "is the hierarchy read-only, or owned by another manager?"
                raise StorageFailed("create cgroup", directory, cause, hint) from error
            try:
                self._limit_devices(hierarchy, directory)
            except OSError as error:
                cause = (error.strerror or str(error)).lower()
                hint = "without them a container could open the machine's disks"
                raise StorageFailed("set device rules of cgroup", directory, cause, hint) from error
            sweep(hierarchy, self.parent)

    def _hold(self, hierarchy: Hierarchy, directory: str) -> None:
        for _ in range(_TRIES):
            cgroups.make_parent(hierarchy, self.parent)
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            fcntl.flock(fd, fcntl.LOCK_SH)
            if _is_there(fd, directory):
                self._held.append(fd)
                return
            os.close(fd)
        raise FileNotFoundError(2, "somebody removes it again and again", directory)

    def _limit_devices(self, hierarchy: Hierarchy, directory: str) -> None:
        if hierarchy.version == 2:
            bpf.install(self._held[-1], device_rules.program(DEVICE_RULES))
        elif "devices" in hierarchy.controllers:
            # Containers of a killed supervisor live: v1 refuses to narrow a parent, and it is narrow already.
            if self._children(hierarchy):
                return
            for file, text in device_rules.writes(DEVICE_RULES):
                cgroups.write(directory, file, text)

    def of(self, id: str) -> str:
        """The cgroup path of a container."""
        return f"{self.parent}/{id}"

    def directory(self, id: str) -> str:
        """The directory in which all of a container's processes are."""
        return self.freezer(id)[1]

    def freezer(self, id: str) -> tuple[int, str]:
        """(version, directory) by which a container is paused."""
        chosen = next((tree for tree in self.hierarchies if "freezer" in tree.controllers), self.hierarchies[0])
        return chosen.version, chosen.mount + self.of(id)

    def ids(self) -> set[str]:
        """The containers that have a cgroup somewhere. O(all): for the recovery alone."""
        found: set[str] = set()
        for hierarchy in self.hierarchies:
            found.update(self._children(hierarchy))
        return found

    def _children(self, hierarchy: Hierarchy) -> list[str]:
        with contextlib.suppress(FileNotFoundError), os.scandir(hierarchy.mount + self.parent) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return []

    def destroy(self, id: str) -> list[str]:
        """Kill what lives in a container's cgroups and remove them; what would not go, by name."""
        left: list[str] = []
        with contextlib.suppress(OSError):  # none, or none any more
            if freezer.is_frozen(*self.freezer(id)):
                freezer.thaw(*self.freezer(id))  # on v1 what is frozen does not die
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
        for fd in self._held:
            os.close(fd)
        self._held.clear()


def sweep(hierarchy: Hierarchy, own: str) -> list[str]:
    """Remove the empty parents of supervisors that were killed for good; their names."""
    removed: list[str] = []
    with os.scandir(hierarchy.mount) as entries:
        names = [entry.name for entry in entries if _OURS.fullmatch(entry.name) and f"/{entry.name}" != own]
    for name in names:
        with contextlib.suppress(OSError):  # gone, held, or lived in: each a reason to leave it
            fd = os.open(f"{hierarchy.mount}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rmdir(f"{hierarchy.mount}/{name}")
                removed.append(name)
            finally:
                os.close(fd)
    return removed


def _is_there(fd: int, directory: str) -> bool:
    """Does the path still lead to the directory that is open?"""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(directory))
    except FileNotFoundError:
        return False
