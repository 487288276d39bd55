"""Operations on the labels of security modules: AppArmor profiles, SELinux contexts of processes and of mounts.

Labels of processes are written through the machine's procfs before the root changes, for the next exec: what a
container calls /proc is never asked (CVE-2019-19921, 2025-52881).
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.making import Making, Operation
from shimd.linux import procfs
from shimd.spec.config import Mount, Process

APPARMOR_ENABLED = "/sys/module/apparmor/parameters/enabled"
FILE_SYSTEMS = "/proc/filesystems"
# Their files have labels of their own, and they refuse a `context=` (as libselinux' users found); binds have their
# source's.
WITHOUT_CONTEXT = ("proc", "sysfs", "cgroup", "cgroup2", "mqueue", "bind", "rbind")


class SetAppArmorProfile(NamedTuple):
    """The profile that the next exec changes to (aa_change_onexec(2))."""

    profile: str

    def describe(self) -> tuple[str, str]:
        return "set AppArmor profile", self.profile

    def execute(self, making: Making) -> None:
        if not has_apparmor():
            raise OSError(errno.EOPNOTSUPP, "this kernel has no AppArmor, or it is not enabled")
        try:
            procfs.write("self/attr/apparmor/exec", f"exec {self.profile}")
        except FileNotFoundError:  # before Linux 4.17 the files were shared with the other modules
            procfs.write("self/attr/exec", f"exec {self.profile}")


class SetSelinuxLabel(NamedTuple):
    """The context that the next exec changes to, and that of the keyring which is made before (selinux(8))."""

    label: str

    def describe(self) -> tuple[str, str]:
        return "set SELinux label", self.label

    def execute(self, making: Making) -> None:
        if not has_selinux():
            raise OSError(errno.EOPNOTSUPP, "this kernel has no SELinux, or it is not enabled")
        procfs.write("self/attr/exec", self.label)
        procfs.write("self/attr/keycreate", self.label)


class CheckMountLabel(NamedTuple):
    """A mount label where no module would read it is refused, and not dropped."""

    label: str

    def describe(self) -> tuple[str, str]:
        return "label mounts", self.label

    def execute(self, making: Making) -> None:
        if not has_selinux():
            raise OSError(errno.EOPNOTSUPP, "this kernel has no SELinux, or it is not enabled")


def has_apparmor() -> bool:
    """Whether AppArmor is built in and on."""
    try:
        with open(APPARMOR_ENABLED) as file:
            return file.read(1) == "Y"
    except FileNotFoundError:
        return False


def has_selinux() -> bool:
    """Whether SELinux is built in and on: it registers its file system when it starts."""
    fd = os.open(FILE_SYSTEMS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"\tselinuxfs\n" in os.read(fd, 1 << 16)
    finally:
        os.close(fd)


def early_steps(process: Process) -> list[Operation]:
    """The labels that a process asks for."""
    steps: list[Operation] = []
    if process.apparmor_profile:
        steps.append(SetAppArmorProfile(process.apparmor_profile))
    if process.selinux_label:
        steps.append(SetSelinuxLabel(process.selinux_label))
    return steps


def labelled(mount: Mount, label: str) -> Mount:
    """The mount with the context of `linux.mountLabel`, where its file system takes one (mount(8), "context=")."""
    own = mount.type in WITHOUT_CONTEXT or {"bind", "rbind"}.intersection(mount.options)
    if not label or own:
        return mount
    return mount._replace(options=(*mount.options, f"context={label}"))
