"""`mounts` of a config as steps: what is taken hold of outside, what init does (config.md, "Mounts")."""

from __future__ import annotations

import os
from collections.abc import Iterator

from shimd.container import labels, options, sources
from shimd.container import mounts as steps
from shimd.container.making import Operation, OutsideOperation
from shimd.container.options import MountOptions
from shimd.container.tmpfs import MountTmpfs, SealTmpfs
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import mounts as kernel
from shimd.linux import processes
from shimd.linux.cgroups import Hierarchy
from shimd.spec.config import Config, IdMapping, Mount


def outside(config: Config) -> list[OutsideOperation]:
    """What init cannot open itself (see `sources`), in the order of the mounts."""
    found: list[OutsideOperation] = []
    for place, mount in enumerate(_entries(config)):
        wish = options.parse(mount.options)
        if _is_bind(mount, wish) and _is_held(config, mount, wish):
            found.append(_held(config, place, mount, wish))
    return found


def inside(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[Operation]:
    """A step per entry, and one more where the entry is a new root."""
    for place, mount in enumerate(_entries(config)):
        wish = options.parse(mount.options)
        if wish.remount:
            yield _remount(mount, wish)
            continue
        if not _is_bind(mount, wish):
            if wish.nofollow:
                raise _refusal("mount", mount, f"{', '.join(sorted(wish.nofollow))}: for binds alone")
            yield _filesystem(config, place, mount, wish, hierarchies)
        elif _is_held(config, mount, wish):
            here, copied = ("dest-nofollow" in wish.nofollow, "copy-symlink" in wish.nofollow)
            yield sources.AttachTree(_key(place), mount.source, mount.destination, here, copied)
        else:
            yield _bind(mount, wish)
        if not os.path.normpath(mount.destination).strip("/"):
            yield steps.CoverRoot()


def last(config: Config) -> Iterator[Operation]:
    """What waits until all is in its place."""
    for place, mount in enumerate(config.mounts):
        if mount.type == "tmpfs" and _is_sealed(options.parse(mount.options)):
            yield SealTmpfs(_key(place), mount.destination)


def _is_sealed(wish: MountOptions) -> bool:
    return not wish.remount and bool((wish.set | wish.recursive_set) & kernel.MOUNT_ATTR_RDONLY)


def _entries(config: Config) -> Iterator[Mount]:
    """The mounts, with the machine's sysfs in place of one that the kernel refuses.

    A sysfs shows a network namespace, and is mounted by who has the right over that (sysfs(5)): not by a container in
    a user namespace of its own that lives in the machine's network.
    """
    spaces = config.linux
    refused = spaces.namespace("user") is not None and spaces.namespace("network") is None
    for mount in config.mounts:
        mount = labels.labelled(mount, spaces.mount_label)
        if refused and mount.type == "sysfs":
            below = tuple(f"r{option}" if option in options.ATTRIBUTES else option for option in mount.options)
            mount = mount._replace(type="bind", source="/sys", options=("rbind", *below))
        yield mount


def brings_devices(config: Config) -> bool:
    """Is the container's /dev a bind? Then it holds what its owner wants: nothing is made in it."""
    return any(
        mount.destination.rstrip("/") == "/dev" and _is_bind(mount, options.parse(mount.options))
        for mount in config.mounts
    )


def _is_bind(mount: Mount, wish: MountOptions) -> bool:
    return not wish.remount and (wish.bind or mount.type in ("bind", "rbind"))


def _is_held(config: Config, mount: Mount, wish: MountOptions) -> bool:
    return (
        config.linux.namespace("user") is not None
        or bool(wish.idmap or mount.uid_mappings or wish.nofollow)
        or wish.propagation in (kernel.MS_SLAVE, kernel.MS_SHARED)
    )


def _key(place: int) -> str:
    return f"mounts[{place}]"  # no path: that begins with a slash


def _held(config: Config, place: int, mount: Mount, wish: MountOptions) -> sources.HoldTree:
    _refuse_parameters(mount, wish)
    return sources.HoldTree(
        key=_key(place),
        source=mount.source,
        destination=mount.destination,
        recursive=wish.recursive or mount.type == "rbind",
        attributes=sources.Attributes(wish.set, wish.clear, wish.recursive_set, wish.recursive_clear),
        propagation=wish.propagation or kernel.MS_PRIVATE,
        propagation_recursive=wish.propagation_recursive,
        strangers=config.linux.namespace("user") is not None,
        idmap=_idmap(config, mount, wish),
        nofollow="src-nofollow" in wish.nofollow,
        copy_symlink="copy-symlink" in wish.nofollow,
    )


def _idmap(config: Config, mount: Mount, wish: MountOptions) -> sources.IdMap | None:
    """The mount's own mappings, or those of the container's user namespace; `spec` sees to it that there are some."""
    if not wish.idmap and not mount.uid_mappings:
        return None
    uids, gids = wish.id_maps if wish.id_maps[0] else (mount.uid_mappings, mount.gid_mappings)
    path = ""
    if not uids:
        user = config.linux.namespace("user")
        path = user.path if user is not None else ""
        uids, gids = config.linux.uid_mappings, config.linux.gid_mappings
    uid_map, gid_map = id_map(uids, "uid_map"), id_map(gids, "gid_map")
    return sources.IdMap(uid_map, gid_map, path, wish.idmap == "ridmap")


def id_map(mappings: tuple[IdMapping, ...], name: str) -> str:
    """As uid_map and gid_map take it (user_namespaces(7)); without mappings the ids stay what they are here."""
    return "".join("{} {} {}\n".format(*mapping) for mapping in mappings) or processes.own_ids(name)


def _bind(mount: Mount, wish: MountOptions) -> Operation:
    _refuse_parameters(mount, wish)
    return steps.BindMount(
        mount.source,
        mount.destination,
        wish.recursive or mount.type == "rbind",
        wish.set,
        wish.clear,
        wish.propagation or kernel.MS_PRIVATE,
        wish.recursive_set,
        wish.recursive_clear,
    )


def _refuse_parameters(mount: Mount, wish: MountOptions) -> None:
    """A bind has its source's file system as it is: mount(8) drops flags of the superblock, the kernel all else."""
    for key, value in wish.parameters:
        if key in ("idmap", "ridmap"):
            raise _refusal("bind", mount, f"{key}={value} is no id map", "as in idmap=uids=0-1000-1;gids=0-1000-1")
        if key not in options.SUPERBLOCK_FLAGS:
            word = key if value is None else f"{key}={value}"
            cause = f"option {word} is the file system's, and a bind takes that as it is"
            raise _refusal("bind", mount, cause, "set it where the source is mounted")
    if wish.copy_up:
        raise _refusal("bind", mount, "tmpcopyup needs a tmpfs")


def _filesystem(
    config: Config, place: int, mount: Mount, wish: MountOptions, hierarchies: tuple[Hierarchy, ...]
) -> Operation:
    if wish.idmap or mount.uid_mappings:
        raise _refusal("mount", mount, "only a bind can be id-mapped")
    if wish.copy_up and mount.type != "tmpfs":
        raise _refusal("mount", mount, "tmpcopyup needs a tmpfs")
    attributes = wish.set | wish.recursive_set
    sealed = _is_sealed(wish)
    if mount.type in ("cgroup", "cgroup2"):
        return _cgroups(config, mount, wish, hierarchies)
    if wish.old_flags or any(_is_long(value) for _, value in wish.parameters):
        flags, data = options.old_style(attributes, wish.parameters)
        return steps.MountByOptions(
            mount.type, mount.destination, mount.source, flags | wish.old_flags, data, wish.propagation
        )
    if mount.type == "tmpfs" and (wish.copy_up or sealed or not any(key == "mode" for key, _ in wish.parameters)):
        return MountTmpfs(
            mount.destination,
            mount.source,
            attributes & ~kernel.MOUNT_ATTR_RDONLY,
            wish.parameters,
            wish.propagation,
            wish.copy_up,
            _key(place) if sealed else "",
        )
    return steps.MountFilesystem(
        mount.type, mount.destination, mount.source, attributes, wish.parameters, wish.propagation
    )


def _is_long(value: str | None) -> bool:
    return value is not None and len(value.encode("utf-8", "surrogateescape")) > kernel.STRING_BYTES


def _cgroups(config: Config, mount: Mount, wish: MountOptions, hierarchies: tuple[Hierarchy, ...]) -> Operation:
    unified = bool(hierarchies) and hierarchies[0].version == 2
    if mount.type == "cgroup2" and not unified:
        cause = "the container's cgroups are of version 1 on this machine"
        raise _refusal("mount cgroup2", mount, cause, "type cgroup mounts whichever version there is")
    for key, _ in wish.parameters:
        if key not in options.SUPERBLOCK_FLAGS:
            raise _refusal("mount cgroup", mount, f"option {key} is the whole machine's hierarchy's")
    whole = unified and config.linux.namespace("cgroup") is None
    return steps.MountCgroups(mount.destination, hierarchies, wish.set | wish.recursive_set, whole)


def _remount(mount: Mount, wish: MountOptions) -> Operation:
    if wish.idmap or mount.uid_mappings or wish.copy_up or wish.old_flags:
        raise _refusal("remount", mount, "idmap, tmpcopyup and iversion are for new mounts alone")
    bind = wish.bind or mount.type in ("bind", "rbind")
    if bind:
        _refuse_parameters(mount, wish)
    return steps.Remount(
        mount.destination,
        wish.set,
        wish.clear,
        wish.recursive_set,
        wish.recursive_clear,
        () if bind else wish.parameters,
        wish.propagation,
        wish.propagation_recursive,
    )


def _refusal(deed: str, mount: Mount, cause: str, hint: str = "") -> RuntimeTrouble:
    return RuntimeTrouble(Trouble("plan", f"{deed} on {mount.destination}", cause, hint))
