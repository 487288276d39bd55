"""`root` and `rootfsPropagation` of a config as steps: own mounts and pivot_root, or others' mounts and chroot."""

from __future__ import annotations

from shimd.container import borrowed, mounts, namespaces, options, root, sources
from shimd.container.making import Operation, OutsideOperation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux.mounts import MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE
from shimd.spec.config import Config


def is_borrowed(config: Config) -> bool:
    """Has the container no new mount namespace, but the runtime's, or one that is joined?"""
    entry = config.linux.namespace("mount")
    return entry is None or bool(entry.path)


def outside(config: Config) -> list[OutsideOperation]:
    """What is done about the root before the container is born."""
    entry = config.linux.namespace("mount")
    if entry is None:
        return [borrowed.BindRoot(config.root.path)]
    if config.linux.namespace("user") is not None and not entry.path:
        return [sources.HoldRoot(config.root.path, _heard(config))]
    return []


def first(config: Config) -> list[Operation]:
    """The root file system, before the mounts."""
    entry = config.linux.namespace("mount")
    if entry is None:
        _refuse_borrowed(config)
        return [borrowed.OpenRoot(config.root.path, bind=False)]
    if entry.path:
        return [namespaces.JoinMounts(), borrowed.OpenRoot(config.root.path, bind=True)]
    steps: list[Operation] = [mounts.SetPropagation(_heard(config))]
    if config.linux.namespace("user") is not None:
        return [*steps, sources.AttachRoot()]
    return [*steps, root.MountRoot(config.root.path, _heard(config))]


def last(config: Config) -> list[Operation]:
    """The change to it, after the mounts."""
    steps: list[Operation] = [root.SealRoot()] if config.root.readonly else []
    if is_borrowed(config):
        return [*steps, borrowed.ChangeRoot()]
    steps.append(root.PivotRoot())
    word = config.linux.rootfs_propagation
    propagation = options.PROPAGATIONS.get(word, 0)
    if propagation in (MS_SHARED, MS_UNBINDABLE):
        steps.append(root.PropagateRoot(propagation, word.startswith("r")))
    return steps


def _heard(config: Config) -> int:
    """Of the machine's mounts the container hears as a slave, or nothing; it never adds to them."""
    return MS_SLAVE if options.PROPAGATIONS.get(config.linux.rootfs_propagation) == MS_SLAVE else MS_PRIVATE


def _refuse_borrowed(config: Config) -> None:
    """What a container cannot have in mounts that are not its own."""
    asked = {
        "$.linux.rootfsPropagation": config.linux.rootfs_propagation not in ("", "private", "rprivate"),
        "$.linux.namespaces": config.linux.namespace("user") is not None,
    }
    for path, value in asked.items():
        if value:
            what = "a user namespace" if path.endswith("namespaces") else "this"
            cause = f"{what} needs a mount namespace of the container's own"
            raise RuntimeTrouble(Trouble("plan", path, cause, 'add {"type": "mount"} to the namespaces'))
