"""Create: policy, names, directories, records. In this order, so that an undo is always possible.

A crash between the directories and the records leaves directories that no record knows: the recovery removes them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import trio

from asyncrt.engine.engine import Engine
from asyncrt.engine.policy import config_for
from asyncrt.errors import BadRequest
from asyncrt.metadata.changes import AppendEvent, Change, PutContainer
from asyncrt.model.container import Container
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.options import Options
from asyncrt.snapshots.sources import Source, parse
from asyncrt.supervisor.cgroups import path_of
from asyncrt.supervisor.zygote import PackedConfig, pack
from shimd.spec.config import Config
from shimd.wire.values import LogWish

MOST_AT_ONCE = 10_000
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Recipe(NamedTuple):
    """What all containers of one request share.

    `options` have what the image says in them, `image` is its name and `base` its manifest. `foreign` are (path, with
    what is mounted below) of the mount sources that the zygote's namespace does not have.
    """

    options: Options
    image: str
    base: Descriptor | None
    source: Source
    config: Config
    packed: PackedConfig
    foreign: tuple[tuple[str, bool], ...]


async def recipe_for(engine: Engine, options: Options, starting: bool = True) -> Recipe:
    """The policy's answer to the options, with hooks if it is `starting`. BadRequest and NoSuchObject name what cannot
    be granted, or the hook that is none.

    An image that is not here is pulled: RegistryFailed, BadImage.
    """
    options, image, base = await engine.images.standing(options)

    def read() -> Recipe:
        source = engine.images.source(options.image) or parse(options.image)
        source = engine.directories.snapshots.init_layers.under(source)
        config = config_for(options, source, engine.root, engine.state)
        if starting:
            config = engine.hooks.inject(config, bool(options.volumes))
        if options.cgroup_parent:
            path_of(options.cgroup_parent)
        log = LogWish(options.log_format, options.log_max_bytes, options.log_files)
        foreign = [
            (mount.source, "rbind" in mount.options)
            for mount in config.mounts
            if ("bind" in mount.options or "rbind" in mount.options) and mount.source.startswith("/")
        ]
        if engine.trees.foreign(source.path):
            foreign.append((source.path, False))
        packed = pack(config, options.stdin, log, engine.hooks.asks)
        return Recipe(options, image, base, source, config, packed, tuple(foreign))

    return await trio.to_thread.run_sync(read)


def place(engine: Engine, container: Container) -> None:
    """Tell where its cgroup is, if it has a parent of its own; a supervisor that adopts it does so, too."""
    if container.options.cgroup_parent:
        engine.cgroups.put(container.id, path_of(container.options.cgroup_parent))


def own_env(container: Container) -> list[str]:
    """What differs in the environments of one request's containers, unless the user asked for something else."""
    own = [f"HOSTNAME={container.options.hostname or container.id[:12]}", f"ASYNCRT_INDEX={container.index}"]
    asked = {entry.partition("=")[0] for entry in container.options.env}
    return [entry for entry in own if entry.partition("=")[0] not in asked]


async def create(engine: Engine, options: Options, count: int, recipe: Recipe) -> list[Container]:
    """`count` containers in state created, all or none. Conflict for a name in use, StorageFailed for the disk."""
    if not 1 <= count <= MOST_AT_ONCE:
        raise BadRequest("create", "containers", f"{count} at once are not possible", f"1 to {MOST_AT_ONCE} are")
    if options.name and not _NAME.fullmatch(options.name):
        raise BadRequest("create", f'container "{options.name}"', "that is no name", "letters, digits, _ . -")
    ids = engine.table.new_ids(count)
    names = engine.table.claim_names(ids, options.name)
    made = False
    try:
        await trio.to_thread.run_sync(_directories, engine, ids, recipe)
        made = True
        now = time.time_ns()
        containers = [
            Container(id, name, recipe.options, index, "created", now, image=recipe.image, base=recipe.base)
            for index, (id, name) in enumerate(zip(ids, names, strict=True))
        ]
        changes: list[Change] = []
        for container in containers:
            changes += [PutContainer(container), AppendEvent("create", container.id, container.name)]
        with trio.CancelScope(shield=True):  # committed and in the table, or neither
            await engine.writer.commit(changes)
            for container in containers:
                engine.table.put(container)
                place(engine, container)
        return containers
    except BaseException:
        engine.table.release_names(names)
        if made:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(engine.directories.remove, ids)
        raise


def _directories(engine: Engine, ids: Sequence[str], recipe: Recipe) -> None:
    engine.directories.make(ids, recipe.source, recipe.options.read_only, recipe.options.image_volumes)
