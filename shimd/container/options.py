"""Mount options (config.md, "Linux mount options"; mount(8)) as the flags and parameters of the mount API.

An option of ATTRIBUTES with an `r` before it (`rro`, `rnosuid`) goes for the mount and all that is mounted below.
"""

from __future__ import annotations

from typing import NamedTuple

from shimd.linux import mounts as m
from shimd.spec.linux import IdMapping

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
SUPERBLOCK_FLAGS = ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand")
# Of the superblock too, but mount(2) alone can say it.
OLD_FLAGS = {"iversion": m.MS_I_VERSION}
# What changes nothing here: who mounts, words for mount(8) alone, what is so anyway. `silent` asks the kernel for
# fewer lines in the machine's log, which this API does not offer.
NOTHING = ("defaults", "auto", "noauto", "user", "nouser", "_netdev", "silent", "loud", "noiversion")


BINDS = ("bind", "rbind")
# Of the last component of a bind's source and destination: a symlink is itself, or is made anew (crun's words).
NOFOLLOW = ("src-nofollow", "dest-nofollow", "copy-symlink")
OWN = ("tmpcopyup", "remount", "idmap", "ridmap", *NOFOLLOW)


def names() -> frozenset[str]:
    """Every option that is understood here, whatever the file system (features.md, "mountOptions")."""
    recursive = (f"r{option}" for option in ATTRIBUTES)
    return frozenset((*ATTRIBUTES, *recursive, *PROPAGATIONS, *SUPERBLOCK_FLAGS, *OLD_FLAGS, *NOTHING, *BINDS, *OWN))


class MountOptions(NamedTuple):
    """`set` and `clear` are MOUNT_ATTR_*; `parameters` go to the file system; propagation 0 means as it comes.

    recursive_set and recursive_clear go for what is mounted below too, and where they speak, set and clear do not.
    idmap is "", "idmap" or "ridmap", with its own maps if it was given some. old_flags are MS_* that only mount(2)
    knows. nofollow are words of NOFOLLOW.
    """

    set: int
    clear: int
    propagation: int
    bind: bool
    recursive: bool
    parameters: tuple[tuple[str, str | None], ...]
    recursive_set: int = 0
    recursive_clear: int = 0
    propagation_recursive: bool = False
    idmap: str = ""
    copy_up: bool = False
    remount: bool = False
    old_flags: int = 0
    nofollow: frozenset[str] = frozenset()
    id_maps: tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] = ((), ())


def parse(options: tuple[str, ...]) -> MountOptions:
    """What the options ask for; an unknown word is the file system's own parameter."""
    top, below = (0, 0), (0, 0)
    propagation = old_flags = 0
    spoken = idmap = ""
    words = {"bind": False, "rbind": False, "tmpcopyup": False, "remount": False}
    parameters: list[tuple[str, str | None]] = []
    nofollow: set[str] = set()
    id_maps: tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] = ((), ())
    for option in options:
        if option in ATTRIBUTES:
            top = _change(top, ATTRIBUTES[option])
        elif option[:1] == "r" and option[1:] in ATTRIBUTES:
            below = _change(below, ATTRIBUTES[option[1:]])
        elif option in PROPAGATIONS:
            propagation, spoken = PROPAGATIONS[option], option
        elif option in words:
            words[option] = True
        elif option in ("idmap", "ridmap"):
            idmap = option
        elif option.startswith(("idmap=", "ridmap=")) and (found := maps_of(option.partition("=")[2])):
            idmap, id_maps = option.partition("=")[0], found
        elif option in NOFOLLOW:
            nofollow.add(option)
        elif option in OLD_FLAGS:
            old_flags |= OLD_FLAGS[option]
        elif option in SUPERBLOCK_FLAGS:
            parameters.append((option, None))
        elif option not in NOTHING and option:
            key, equals, value = option.partition("=")
            parameters.append((key, value if equals else None))
    ruled = below[0] | below[1]
    return MountOptions(
        top[0] & ~ruled,
        top[1] & ~ruled,
        propagation,
        words["rbind"] or words["bind"],
        words["rbind"],
        tuple(parameters),
        *below,
        propagation_recursive=spoken.startswith("r"),
        idmap=idmap,
        copy_up=words["tmpcopyup"],
        remount=words["remount"],
        old_flags=old_flags,
        nofollow=frozenset(nofollow),
        id_maps=id_maps,
    )


def maps_of(text: str) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]] | None:
    """(uids, gids) of `uids=0-1000-1#1-2000-10;gids=0-1000-1`, as podman and crun write it; None if it is no such."""
    parts = dict(part.partition("=")[::2] for part in text.split(";"))
    if set(parts) != {"uids", "gids"}:
        return None
    uids, gids = (_ranges(parts[name]) for name in ("uids", "gids"))
    return (uids, gids) if uids and gids else None


def _ranges(text: str) -> tuple[IdMapping, ...]:
    found = []
    for part in text.split("#"):
        numbers = part.split("-")
        if len(numbers) != 3 or not all(word.isascii() and word.isdigit() and len(word) < 11 for word in numbers):
            return ()
        found.append(IdMapping(*(int(word) for word in numbers)))
    return tuple(found)


def _change(flags: tuple[int, int], by: tuple[int, int]) -> tuple[int, int]:
    """(set, clear) after one more option: the last word counts."""
    (set_, clear), (on, off) = flags, by
    return set_ & ~off | on, clear & ~on | off


def old_style(attributes: int, parameters: tuple[tuple[str, str | None], ...]) -> tuple[int, str]:
    """The same for mount(2): (MS_* flags, data)."""
    flags = OLD_ATIMES[attributes & m.MOUNT_ATTR_ATIME]
    for attribute, flag in OLD_ATTRIBUTES:
        if attributes & attribute:
            flags |= flag
    words = []
    for key, value in parameters:
        if value is None and key in OLD_SUPERBLOCK_FLAGS:
            flags |= OLD_SUPERBLOCK_FLAGS[key]
        else:
            words.append(key if value is None else f"{key}={value}")
    return flags, ",".join(words)


OLD_ATTRIBUTES = (
    (m.MOUNT_ATTR_RDONLY, m.MS_RDONLY),
    (m.MOUNT_ATTR_NOSUID, m.MS_NOSUID),
    (m.MOUNT_ATTR_NODEV, m.MS_NODEV),
    (m.MOUNT_ATTR_NOEXEC, m.MS_NOEXEC),
    (m.MOUNT_ATTR_NODIRATIME, m.MS_NODIRATIME),
    (m.MOUNT_ATTR_NOSYMFOLLOW, m.MS_NOSYMFOLLOW),
)
OLD_ATIMES = {
    m.MOUNT_ATTR_RELATIME: m.MS_RELATIME,
    m.MOUNT_ATTR_NOATIME: m.MS_NOATIME,
    m.MOUNT_ATTR_STRICTATIME: m.MS_STRICTATIME,
}
OLD_SUPERBLOCK_FLAGS = {
    "sync": m.MS_SYNCHRONOUS,
    "async": 0,
    "dirsync": m.MS_DIRSYNC,
    "lazytime": m.MS_LAZYTIME,
    "nolazytime": 0,
    "mand": m.MS_MANDLOCK,
    "nomand": 0,
}
