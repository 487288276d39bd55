"""`mounts` of a config as steps: what is taken hold of outside, what init does (config.md, "Mounts")."""

from __future__ import annotations

from collections.abc import Iterator

from shimd.container import mounts as steps
from shimd.container import options, sources
from shimd.container.making import Operation, OutsideOperation
from shimd.container.options import MountOptions
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import mounts as kernel
from shimd.linux.cgroups import Hierarchy
from shimd.spec.config import Config, Mount


def outside(config: Config) -> list[OutsideOperation]:
    """What init cannot open itself (see `sources`), in the order of the mounts."""
    found: list[OutsideOperation] = []
    if config.linux.namespace("user") is not None:
        found.append(sources.HoldRoot(config.root.path))
    for place, mount in enumerate(config.mounts):
        wish = options.parse(mount.options)
        if _is_bind(mount, wish) and _is_held(config, mount, wish):
            found.append(_held(config, place, mount, wish))
    return found


def inside(config: Config, hierarchies: tuple[Hierarchy, ...]) -> Iterator[Operation]:
    """A step per entry."""
    for place, mount in enumerate(config.mounts):
        wish = options.parse(mount.options)
        if not _is_bind(mount, wish):
            yield _filesystem(mount, wish, hierarchies)
        elif _is_held(config, mount, wish):
            yield sources.AttachTree(_key(place), mount.source, mount.destination)
        else:
            yield _bind(mount, wish)


def _is_bind(mount: Mount, wish: MountOptions) -> bool:
    return wish.bind or mount.type in ("bind", "rbind")


def _is_held(config: Config, mount: Mount, wish: MountOptions) -> bool:
    return config.linux.namespace("user") is not None


def _key(place: int) -> str:
    return f"mounts[{place}]"  # no path: a source begins with a slash


def _held(config: Config, place: int, mount: Mount, wish: MountOptions) -> sources.HoldTree:
    _refuse_parameters(mount, wish)
    return sources.HoldTree(
        key=_key(place),
        source=mount.source,
        recursive=wish.recursive or mount.type == "rbind",
        attributes=sources.Attributes(wish.set, wish.clear),
        propagation=wish.propagation or kernel.MS_PRIVATE,
        propagation_recursive=True,
        strangers=config.linux.namespace("user") is not None,
        idmap=None,
    )


def _bind(mount: Mount, wish: MountOptions) -> Operation:
    _refuse_parameters(mount, wish)
    recursive = wish.recursive or mount.type == "rbind"
    propagation = wish.propagation or kernel.MS_PRIVATE
    return steps.BindMount(mount.source, mount.destination, recursive, wish.set, wish.clear, propagation)


def _refuse_parameters(mount: Mount, wish: MountOptions) -> None:
    """A bind has its source's file system as it is. mount(8) drops flags of the superblock, and nothing else."""
    for key, value in wish.parameters:
        if key not in options.SUPERBLOCK_FLAGS:
            word = key if value is None else f"{key}={value}"
            raise RuntimeTrouble(Trouble("plan", f"bind on {mount.destination}", f"option {word} is not built yet"))


def _filesystem(mount: Mount, wish: MountOptions, hierarchies: tuple[Hierarchy, ...]) -> Operation:
    if mount.uid_mappings or any(key in ("idmap", "ridmap", "tmpcopyup") for key, _ in wish.parameters):
        raise RuntimeTrouble(Trouble("plan", f"mount on {mount.destination}", "id-mapped mounts are not built yet"))
    if mount.type in ("cgroup", "cgroup2"):
        return steps.MountCgroups(mount.destination, hierarchies, wish.set)
    return steps.MountFilesystem(
        mount.type, mount.destination, mount.source, wish.set, wish.parameters, wish.propagation
    )
