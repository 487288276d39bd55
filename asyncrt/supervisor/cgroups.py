"""The parent of all containers' cgroups, and what a dead shim left in it.

The parent carries the device rules, so that no start has to write them: on v1 a cgroup begins with its parent's rules
and can never have more, on v2 the programs of all cgroups above are asked as well (docs/decisions/0008).

A supervisor holds its parent by a lock on each of its directories, which the kernel lets go when it dies. A parent that
nobody holds and that is empty is what a killed supervisor left. If its state directory gets a supervisor again, that
one uses it. If not, the next one of this machine, whatever its own state directory is, removes it (`sweep`); but not
/asyncrt, which is the usual state directory's and waits for that.

One contract, and who keeps it:

    cgroups = Cgroups(parent_for(state))        # by the files of v1 or v2; systemd.Scope where systemd owns the tree
    cgroups.open()                              # the parent stands, is held, hands on its controllers, has device rules
    cgroups.of(id), directory(id), freezer(id)  # where a container is; the shim makes and removes it
    cgroups.put(id, "/mine")                    # it shall be below another parent (--cgroup-parent), which then stands
    cgroups.signal_all(id, 9); destroy(id)      # every process of it; what a dead shim left
    cgroups.close()                             # the parent goes, if nothing lives in it

On v2 a cgroup with processes of its own hands on no controllers (the leaf rule, cgroups(7)): nothing but cgroups is
ever put into a parent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import signal
from pathlib import Path

from asyncrt.errors import BadRequest, Conflict, StorageFailed
from shimd.linux import bpf, cgroups, device_rules, freezer
from shimd.linux.cgroups import Hierarchy

DEFAULT_STATE = "/run/asyncrt"
DEVICE_RULES = (device_rules.Rule(False), *device_rules.DEFAULT)
_OURS = re.compile(r"asyncrt-[0-9a-f]{16}")  # 12 digits were a version's that locked nothing
_TRIES = 16  # against a sweeper that removes what was made and not locked yet


def parent_for(state: Path, above: str = "") -> str:
    """The cgroup of one supervisor: ABOVE/asyncrt, or with a hash behind where several live side by side."""
    if str(state) == DEFAULT_STATE:
        return f"{above}/asyncrt"
    return f"{above}/asyncrt-{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}"


def path_of(text: str, subject: str = "--cgroup-parent") -> str:
    """A cgroup's path as somebody wrote it, below each hierarchy's mount point. BadRequest for what is none."""
    words = text.split("/")
    if "\0" in text or ".." in words or "." in words:
        raise BadRequest("read", subject, f'"{text}" is no path of a cgroup', "write it as /mine/below")
    path = "/" + "/".join(word for word in words if word)
    if path == "/":
        raise BadRequest("read", subject, f'"{text}" names the root of all cgroups', "write it as /mine/below")
    return path


class Cgroups:
    """All paths are below each hierarchy's mount point."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.hierarchies = cgroups.hierarchies()
        self.accounts = cgroups.accounts()
        """The tree with accounts of pressure: v2's, also beside those of v1 (pressure.py)."""
        self._held: list[int] = []
        self._elsewhere: dict[str, str] = {}

    def open(self) -> None:
        """Make the parent, hold it, and sweep. StorageFailed if this machine lets nobody make cgroups."""
        if not self.hierarchies:
            raise StorageFailed("find", "cgroups", "none are mounted", "mount cgroup2 on /sys/fs/cgroup")
        for hierarchy in self.hierarchies:
            directory = hierarchy.mount + self.parent
            try:
                self._hold(hierarchy, directory)
            except OSError as error:
                raise refused("create cgroup", error.filename or directory, error) from error
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
        return f"{self._elsewhere.get(id, self.parent)}/{id}"

    def put(self, id: str, parent: str) -> None:
        """A container of its own parent, as path_of() gives it; to be told again by each supervisor."""
        self._elsewhere[id] = parent

    def drop(self, id: str) -> None:
        """It is removed."""
        self._elsewhere.pop(id, None)

    def make_parent(self, parent: str) -> None:
        """Have a parent that somebody chose stand, in every hierarchy; it stays. Conflict says why it cannot."""
        for hierarchy in self.hierarchies:
            try:
                cgroups.make_parent(hierarchy, parent)
            except OSError as error:
                trouble = refused("use cgroup", error.filename or hierarchy.mount + parent, error)
                raise Conflict(trouble.deed, trouble.subject, trouble.cause, trouble.hint) from error

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
        for hierarchy in self._trees():
            found.update(self._children(hierarchy))
        return found

    def _trees(self) -> list[Hierarchy]:
        """Where something of a container may be: also where only its accounts are."""
        beside = self.accounts is not None and self.accounts not in self.hierarchies
        return [*self.hierarchies, self.accounts] if beside and self.accounts else self.hierarchies

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
        for hierarchy in self._trees():
            directory = hierarchy.mount + self.of(id)
            try:
                cgroups.kill(hierarchy, directory)
                cgroups.remove(directory)
            except OSError as error:
                left.append(f"cgroup {directory} ({(error.strerror or '').lower()})")
        return left

    def signal_all(self, id: str, number: int) -> None:
        """Send a signal to every process of a container, also to what forks meanwhile; SIGKILL on v2 by cgroup.kill.

        Blocks. A paused one is to be thawed by the caller. Gone already is fine.
        """
        tree = next((tree for tree in self.hierarchies if "freezer" in tree.controllers), self.hierarchies[0])
        if number == signal.SIGKILL:
            cgroups.kill(tree, tree.mount + self.of(id))
            return
        told: set[int] = set()
        while members := set(cgroups.all_processes(tree.mount + self.of(id))) - told:
            for pid in members:
                _signal(pid, number, tree.mount + self.of(id))
            told |= members

    def has_accounts_beside(self, id: str) -> bool:
        """Hybrid: does somebody watch its pressure (pressure.py)?"""
        tree = self.accounts
        return tree is not None and tree not in self.hierarchies and os.path.isdir(tree.mount + self.of(id))

    def forget_accounts(self, id: str) -> None:
        """Hybrid: remove what pressure.py made for a container that has ended."""
        if self.accounts is not None and self.accounts not in self.hierarchies:
            directory = self.accounts.mount + self.of(id)
            with contextlib.suppress(OSError):  # nobody asked for them, as a rule
                os.rmdir(directory)
                os.rmdir(os.path.dirname(directory))

    def close(self) -> None:
        """Remove the parent if nothing lives in it."""
        for hierarchy in self._trees():
            with contextlib.suppress(OSError):  # EBUSY: containers go on, and so does their parent
                os.rmdir(hierarchy.mount + self.parent)
        for fd in self._held:
            os.close(fd)
        self._held.clear()


def _signal(pid: int, number: int, directory: str) -> None:
    """By a pidfd, proven to be a member's: a pid that was given anew is nobody's to signal."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in cgroups.all_processes(directory):
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def refused(deed: str, subject: str, error: OSError) -> StorageFailed:
    """Why a cgroup cannot be made, with the mend that the errno suggests."""
    cause = (error.strerror or str(error)).lower()
    hint = _MENDS.get(error.errno or 0, "is the hierarchy owned by another manager?")
    return StorageFailed(deed, subject, cause, hint)


_MENDS = {
    errno.EROFS: "the cgroup file system is read-only: mount it rw (in a container: have it privileged)",
    errno.EACCES: "have a cgroup delegated to you, and name it: ASYNCRT_CGROUP_PARENT",
    errno.EPERM: "have a cgroup delegated to you, and name it: ASYNCRT_CGROUP_PARENT",
    errno.EBUSY: "processes live in that cgroup or above, so it hands on no controllers: name an empty one",
    errno.ENOTDIR: "a file has that name",
    errno.EAGAIN: "cgroup.max.descendants or cgroup.max.depth of a cgroup above is reached",
}


def sweep(hierarchy: Hierarchy, own: str) -> list[str]:
    """Remove the empty parents of supervisors that were killed for good; their names."""
    removed: list[str] = []
    above = hierarchy.mount + os.path.dirname(own).rstrip("/")
    with os.scandir(above) as entries:
        names = [entry.name for entry in entries if _OURS.fullmatch(entry.name) and entry.name != os.path.basename(own)]
    for name in names:
        with contextlib.suppress(OSError):  # gone, held, or lived in: each a reason to leave it
            fd = os.open(f"{above}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rmdir(f"{above}/{name}")
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
