"""A container's cgroups after create: who is in, signals to all, the end of all, removal.

Apart from `shimd.linux.cgroups`, which finds and makes hierarchies: here the record knows where they are.
"""

import os
import time

from shimd.command.record import Record
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import freezer, proc
from shimd.linux.pidfd import SIGKILL

ROUNDS = 32  # of killing, against a fork bomb that is faster than one list
BUSY_SECONDS = 5.0  # for the last task of a dead container to leave its cgroup
OWN = "/"  # the root of a hierarchy is nobody's container


def place(record: Record) -> tuple[int, str] | None:
    """(version, directory) of the cgroup whose processes are the container's; None if it has none."""
    chosen: tuple[int, str] | None = None
    for version, directory, controllers in record.directories():
        if record.cgroup != OWN and (chosen is None or version == 2 or "freezer" in controllers):
            chosen = version, directory
    return chosen


def pids(record: Record) -> list[int]:
    """The processes in its cgroup and those below, as the caller's pid namespace numbers them.

    Of a cgroup that it shares with others those that are in its pid namespace.
    """
    found = place(record)
    if found is None:
        return [record.pid] if record.pid else []
    members = sorted(_below(found[1]))
    if not record.shared:
        return members
    own = _pid_namespace(record.pid)
    return [pid for pid in members if own and _pid_namespace(pid) == own]


def _pid_namespace(pid: int) -> str:
    """Its name; "" if the process ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _below(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs") as file:
            members = [int(word) for word in file.read().split() if word != "0"]
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # removed meanwhile; ENOTSUP: a threaded cgroup, whose processes its parent lists
        return []
    for child in children:
        members += _below(child)
    return members


def signal_all(record: Record, number: int) -> None:
    """A signal to every process; SIGKILL until nobody is left, and to frozen ones too."""
    found = place(record)
    alone = found is not None and not record.shared
    if number == SIGKILL and found and alone and found[0] == 2 and _write(f"{found[1]}/cgroup.kill", "1"):
        return
    for _ in range(ROUNDS if number == SIGKILL else 1):
        members = pids(record)
        for pid in members:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if number == SIGKILL:
            thaw(record)
        if not members:
            return
        if number == SIGKILL:
            time.sleep(0.001)


def thaw(record: Record) -> None:
    """So that a killed process can die (v1: a frozen one does not)."""
    found = place(record)
    if found and freezer.is_frozen(*found):
        freezer.thaw(*found)


def fetch_back(record: Record) -> None:
    """init into its own cgroup, if somebody moved it to one that is frozen: there a killed process does not die (v1).

    Only init is thawed by that, and nobody who is frozen beside it.
    """
    found = place(record)
    if found and found[0] == 1 and proc.lives(record.pid, record.start):
        _write(f"{found[1]}/cgroup.procs", str(record.pid))


def _write(path: str, word: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, word.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def remove(record: Record) -> None:
    """Kill what is left and remove the cgroups with those below. RuntimeTrouble if one stays busy."""
    if record.cgroup == OWN:
        return
    if record.shared:
        for _, directory, _ in record.directories():
            _leave(directory)
        return
    deadline = time.monotonic() + BUSY_SECONDS
    for version, directory, _ in record.directories():
        while not _removed(directory):
            if time.monotonic() > deadline:
                cause = "a process in it does not end"
                raise RuntimeTrouble(Trouble("remove cgroup", directory, cause, f"version {version}", 16))
            signal_all(record, SIGKILL)
            time.sleep(0.002)


def _leave(directory: str) -> None:
    """Remove a cgroup if nobody is in it or has one below: whose it is cannot be told."""
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (2, 16, 39):  # ENOENT, EBUSY, ENOTEMPTY
            raise RuntimeTrouble(from_oserror("remove cgroup", directory, error)) from None


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (16, 39):  # EBUSY; ENOTEMPTY on file systems that are like cgroups
            raise RuntimeTrouble(from_oserror("remove cgroup", directory, error)) from None
    try:
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return True
    gone = [_removed(child) for child in children]
    return bool(gone) and all(gone) and _removed(directory)
