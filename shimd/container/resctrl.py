"""linux.intelRdt as operations (config-linux.md, "IntelRdt"; the kernel's Documentation/filesystems/resctrl.rst).

    MakeGroup       outside: the group of a class of service, its schemata, its monitoring group
    EnterGroup      birth: into both

A group without a name of its own is called as its container and goes with it; a named one is shared, and stays.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.making import Making, Operation, OutsideOperation
from shimd.linux import procfs
from shimd.spec.linux import IntelRdt

MOUNT = "/sys/fs/resctrl"
MAGIC = 0x07655821  # RDTGROUP_SUPER_MAGIC


class MakeGroup(NamedTuple):
    """`lines` of schemata; without any, a named group has to exist already."""

    name: str
    lines: tuple[str, ...]
    monitored: bool

    def describe(self) -> tuple[str, str]:
        return "make resctrl group", self.name or "of the container"

    def execute(self, making: Making) -> None:
        check_mounted()
        directory = group(self.name, making)
        made = self._made(directory)
        try:
            if self.lines and (made or not self.name):
                write_schemata(directory, self.lines)
            elif self.lines:
                self._compare(directory)
            if self.monitored:
                os.mkdir(f"{directory}/mon_groups/{making.id}", 0o755)
        except OSError:
            if made:
                os.rmdir(directory)
            raise

    def _made(self, directory: str) -> bool:
        if self.name == "/" or (self.name and not self.lines):
            os.stat(directory)  # ENOENT: the spec wants it to be there
            return False
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            if not self.name:
                raise
            return False
        return True

    def _compare(self, directory: str) -> None:
        """The schemata of a group that others use are a condition, and no order."""
        with open(f"{directory}/schemata") as file:
            there = {_plain(line) for line in file}
        for line in self.lines:
            if _plain(line) not in there:
                raise OSError(errno.EINVAL, f"the group exists and has no {line}", directory)

    def undo(self, making: Making) -> None:
        directory = group(self.name, making)
        for path in [f"{directory}/mon_groups/{making.id}"] * self.monitored + [directory] * (not self.name):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue


class EnterGroup(NamedTuple):
    """init: by its `tasks`, and by the monitoring group's, which must lie in the same class."""

    name: str
    monitored: bool

    def describe(self) -> tuple[str, str]:
        return "enter resctrl group", self.name or "of the container"

    def execute(self, making: Making) -> None:
        directory = group(self.name, making)
        for path in [directory] + [f"{directory}/mon_groups/{making.id}"] * self.monitored:
            _write(f"{path}/tasks", "0")  # 0: the writer


class Groups(NamedTuple):
    """The steps of a config; none without intelRdt."""

    outside: tuple[OutsideOperation, ...] = ()
    enter: tuple[Operation, ...] = ()


def compile_groups(wish: IntelRdt | None) -> Groups:
    """What `intelRdt` asks for."""
    if wish is None:
        return Groups()
    lines = tuple(line for line in (wish.l3_cache_schema, wish.mem_bw_schema, *wish.schemata) if line)
    # 1.1 and 1.2 name the cache's occupancy and the memory's bandwidth apart; a monitoring group counts what there is.
    monitored = wish.enable_monitoring or wish.enable_cmt or wish.enable_mbm
    return Groups((MakeGroup(wish.clos_id, lines, monitored),), (EnterGroup(wish.clos_id, monitored),))


def check_mounted() -> None:
    """OSError where there is no resctrl."""
    try:
        fd = os.open(MOUNT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OSError(errno.EOPNOTSUPP, "this kernel or processor has no resctrl") from None
    try:
        if procfs.file_system(fd) != MAGIC:
            raise OSError(errno.EOPNOTSUPP, f"no resctrl is mounted on {MOUNT}")
    finally:
        os.close(fd)


def group(name: str, making: Making) -> str:
    """The directory of a class of service; "/" is the default class, "" the container's own."""
    return MOUNT if name == "/" else f"{MOUNT}/{name or making.id}"


def write_schemata(directory: str, lines: tuple[str, ...]) -> None:
    """All lines at once. What the kernel says about one that it refuses is in info/last_cmd_status."""
    try:
        _write(f"{directory}/schemata", "".join(f"{line}\n" for line in lines))
    except OSError as error:
        said = ""
        try:
            with open(f"{MOUNT}/info/last_cmd_status") as file:
                said = file.read().strip()
        except OSError:
            said = error.strerror or ""
        raise OSError(error.errno, said or error.strerror, directory) from error


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _plain(line: str) -> str:
    return "".join(line.split()).lower()
