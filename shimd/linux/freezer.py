"""The freezer: v1's controller of that name, v2's cgroup.freeze (cgroups(7); kernel: freezer-subsystem, cgroup-v2).

On v1 a write begins and FREEZING lasts until every task has stopped: who writes waits, and takes it back in vain.
"""

import errno
import os
import time

PATIENCE = 5.0  # seconds until a cgroup that does not freeze is let go
# version: (file to write, frozen, thawed)
FILES = {1: ("freezer.state", "FROZEN", "THAWED"), 2: ("cgroup.freeze", "1", "0")}


def is_frozen(version: int, directory: str) -> bool:
    """Does everything in it stand still, or is about to? False if there is no such cgroup."""
    file, _, thawed = FILES[version]
    try:
        return _read(f"{directory}/{file}") != thawed
    except OSError:
        return False


def freeze(version: int, directory: str) -> None:
    """Stop every task; OSError(EBUSY) if one cannot be stopped, and then all run again."""
    file, frozen, _ = FILES[version]
    deadline = time.monotonic() + PATIENCE
    _write(f"{directory}/{file}", frozen)
    while not _stands(version, directory):
        if time.monotonic() > deadline:
            thaw(version, directory)
            raise OSError(errno.EBUSY, "a task of it did not stop", directory)
        time.sleep(0.002)
        if version == 1:  # a fork in the meantime leaves it FREEZING until it is told again
            _write(f"{directory}/{file}", frozen)


def thaw(version: int, directory: str) -> None:
    """Let every task go on."""
    file, _, thawed = FILES[version]
    _write(f"{directory}/{file}", thawed)


def _stands(version: int, directory: str) -> bool:
    if version == 1:
        return _read(f"{directory}/freezer.state") == "FROZEN"
    return "frozen 1" in _read(f"{directory}/cgroup.events")


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def _write(path: str, word: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, word.encode())
    finally:
        os.close(fd)
