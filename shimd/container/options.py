"""Mount options (mount(8), config.md "Mounts") as the flags and parameters of the mount API."""

from __future__ import annotations

from typing import NamedTuple

from shimd.linux import mounts as m

# option: (set, clear)
ATTRIBUTES: dict[str, tuple[int, int]] = {
    "ro": (m.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MOUNT_ATTR_NODEV, 0),
    "dev": (0, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, m.MOUNT_ATTR_NOEXEC),
    "noatime": (m.MOUNT_ATTR_NOATIME, m.MOUNT_ATTR_ATIME),
    "atime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "relatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "norelatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "strictatime": (m.MOUNT_ATTR_STRICTATIME, m.MOUNT_ATTR_ATIME),
    "nostrictatime": (m.MOUNT_ATTR_RELATIME, m.MOUNT_ATTR_ATIME),
    "nodiratime": (m.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, m.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (m.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, m.MOUNT_ATTR_NOSYMFOLLOW),
}
PROPAGATIONS = {
    "private": m.MS_PRIVATE,
    "rprivate": m.MS_PRIVATE,
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED,
    "unbindable": m.MS_UNBINDABLE,
    "runbindable": m.MS_UNBINDABLE,
}
# Of the superblock; fsconfig takes them as flags under these names.
SUPERBLOCK_FLAGS = ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand", "silent", "loud")
NOTHING = ("defaults", "bind", "rbind", "auto", "noauto", "user", "nouser", "_netdev")


class MountOptions(NamedTuple):
    """`set` and `clear` are MOUNT_ATTR_*; `parameters` go to the file system; propagation 0 means as it comes."""

    set: int
    clear: int
    propagation: int
    bind: bool
    recursive: bool
    parameters: tuple[tuple[str, str | None], ...]


def parse(options: tuple[str, ...]) -> MountOptions:
    """What the options ask for; an unknown word is the file system's own parameter."""
    set_ = clear = propagation = 0
    parameters: list[tuple[str, str | None]] = []
    for option in options:
        if option in ATTRIBUTES:
            on, off = ATTRIBUTES[option]
            set_, clear = set_ & ~off | on, clear & ~on | off
        elif option in PROPAGATIONS:
            propagation = PROPAGATIONS[option]
        elif option in SUPERBLOCK_FLAGS:
            parameters.append((option, None))
        elif option not in NOTHING and option:
            key, equals, value = option.partition("=")
            parameters.append((key, value if equals else None))
    recursive = "rbind" in options
    return MountOptions(set_, clear, propagation, recursive or "bind" in options, recursive, tuple(parameters))
