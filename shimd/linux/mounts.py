"""Mounts: the old call and the fd-based API (mount(2), fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)).

What is made with the fd-based API has no path until move_mount gives it one, so no string is resolved twice.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os

from shimd.linux.libc import INT, POINTER, SIZE, STRING, UINT, ULONG, check, function, syscall

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

STRING_BYTES = 255  # the longest string that fsconfig(2) takes; longer ones are EINVAL
OPTIONS_BYTES = 4095  # of mount(2): a page with its NUL; what is longer is cut off without a word

FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
FSMOUNT_CLOEXEC = 1
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70  # the mask of the atime modes
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

_mount = function("mount", STRING, STRING, STRING, ULONG, STRING)
_umount2 = function("umount2", STRING, INT)
_fsopen = syscall("fsopen", STRING, UINT)
_fspick = syscall("fspick", INT, STRING, UINT)
_fsconfig = syscall("fsconfig", INT, UINT, STRING, STRING, INT)
_fsmount = syscall("fsmount", INT, UINT, UINT)
_open_tree = syscall("open_tree", INT, STRING, UINT)
_move_mount = syscall("move_mount", INT, STRING, INT, STRING, UINT)
_mount_setattr = syscall("mount_setattr", INT, STRING, UINT, POINTER, SIZE)
_pivot_root = syscall("pivot_root", STRING, STRING)


class _MountAttr(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if word is None else os.fsencode(word) for word in (source, kind, data)]
    check(_mount(encoded[0], os.fsencode(target), encoded[1], flags, encoded[2]), target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    check(_umount2(os.fsencode(target), flags), target)


def fsopen(kind: str) -> int:
    """fsopen(2): an fd on a new superblock's configuration. ENODEV: this kernel has no such file system."""
    return check(_fsopen(os.fsencode(kind), FSOPEN_CLOEXEC), kind)


def fspick(fd: int) -> int:
    """fspick(2): an fd on the configuration of the superblock that fd lies on."""
    return check(_fspick(fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH))


def fsconfig_reconfigure(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_RECONFIGURE."""
    check(_fsconfig(fd, FSCONFIG_CMD_RECONFIGURE, None, None, 0))


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2), FSCONFIG_SET_STRING."""
    check(_fsconfig(fd, FSCONFIG_SET_STRING, os.fsencode(key), os.fsencode(value), 0), f"{key}={value}")


def fsconfig_flag(fd: int, key: str) -> None:
    """fsconfig(2), FSCONFIG_SET_FLAG."""
    check(_fsconfig(fd, FSCONFIG_SET_FLAG, os.fsencode(key), None, 0), key)


def fsconfig_fd(fd: int, key: str, value: int) -> None:
    """fsconfig(2), FSCONFIG_SET_FD."""
    check(_fsconfig(fd, FSCONFIG_SET_FD, os.fsencode(key), None, value), key)


def fsconfig_create(fd: int) -> None:
    """fsconfig(2), FSCONFIG_CMD_CREATE. The kernel's words about a refusal are in what `log` reads from fd."""
    check(_fsconfig(fd, FSCONFIG_CMD_CREATE, None, None, 0))


def fsmount(fd: int, attributes: int) -> int:
    """fsmount(2): a detached mount of what fsopen's fd configured."""
    return check(_fsmount(fd, FSMOUNT_CLOEXEC, attributes))


def log(fd: int) -> str:
    """What the kernel wrote into fsopen's fd, one line; "" if nothing."""
    lines = []
    try:
        while True:
            lines.append(os.read(fd, 4096).decode(errors="replace").strip())
    except OSError:
        return "; ".join(line.partition(" ")[2] or line for line in lines)


@functools.cache
def overlay_appends() -> bool:
    """Does overlay take its layers one by one (`lowerdir+`)? Linux 6.7 and later do.

    Asked once in a process, by a configuration that is thrown away: an older overlay keeps any word until it is
    mounted and then refuses it in the machine's log, one from before 6.5 even the word that no kernel knows.
    """
    fd = fsopen("overlay")
    try:
        try:
            fsconfig_flag(fd, "no-such-parameter")
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        fsconfig_string(fd, "lowerdir+", "/")
        return True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    finally:
        os.close(fd)


def open_tree(directory: int, path: str, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE a detached copy of the mount (AT_RECURSIVE: and all below)."""
    return check(_open_tree(directory, os.fsencode(path), flags | OPEN_TREE_CLOEXEC), path)


def move_mount(tree: int, target: int) -> None:
    """move_mount(2) of a mount held by fd onto a directory or file held by fd."""
    check(_move_mount(tree, b"", target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))


def mount_setattr(
    fd: int,
    path: str,
    *,
    set_: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    userns: int = 0,
) -> None:
    """mount_setattr(2); path "" means the mount that fd is on. userns is MOUNT_ATTR_IDMAP's fd."""
    attributes = _MountAttr(set_, clear, propagation, userns)
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    encoded = os.fsencode(path)
    check(_mount_setattr(fd, encoded, flags, ctypes.byref(attributes), ctypes.sizeof(attributes)), path)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)


def places_of(kinds: tuple[str, ...]) -> list[str]:
    """Where file systems of these kinds are mounted in this namespace, the last mount first."""
    found = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words = line.split()
            if words[words.index("-") + 1] in kinds:
                found.append(unescape(words[4]))
    return found[::-1]


def optional_fields(place: str) -> list[str]:
    """Of the mount that is seen at a mount point: `shared:1`, `master:2`, `unbindable`. Empty if there is none."""
    found: list[str] = []
    with open("/proc/self/mountinfo") as file:
        for line in file:
            words = line.split()
            if unescape(words[4]) == place:
                found = words[6 : words.index("-")]
    return found


def unescape(word: str) -> str:
    """The octal escapes of proc_pid_mountinfo(5)."""
    if "\\" not in word:
        return word
    return os.fsdecode(word.encode("ascii", "surrogateescape").decode("unicode_escape").encode("latin-1"))
