"""Images that go: names that are forgotten, and then the blobs and layers that nothing needs any more.

`used` is asked for what containers stand on: the chains of their layers and the manifests of their images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from asyncrt.content.collect import reachable
from asyncrt.engine.images import LAYERS, Images, diff_ids
from asyncrt.engine.naming import familiar, is_bare
from asyncrt.errors import AsyncrtError, Conflict
from asyncrt.model import reference as references
from asyncrt.model.container import Container
from asyncrt.model.digest import chain_ids


def used(containers: Iterable[Container]) -> set[str]:
    """The chains that containers stand on, and the manifests of their images."""
    chains = {one.options.image.removeprefix(LAYERS) for one in containers if one.options.image.startswith(LAYERS)}
    return chains | {one.base.digest for one in containers if one.base is not None}


async def remove(images: Images, text: str, used: Callable[[], set[str]], force: bool = False) -> list[str]:
    """Forget a name, and remove what nothing refers to any more; the digests of the blobs that went.

    Conflict if it is the last name of layers that a container stands on, or an id of an image with several names;
    with `force` all names are forgotten, and what containers stand on goes with them.
    """
    name, named = images.names.find(text)
    names = images.names.of(named.target.digest)
    by_id = familiar(name) != _plainly(text)
    doomed = names if by_id else [named]
    if by_id and len(names) > 1 and not force:
        listed = ", ".join(familiar(one.name) for one in names)
        raise Conflict("remove image", text, f"it has several names: {listed}", "name one of them, or use -f")
    if len(doomed) == len(names) and not force:
        found = await images.attempt(name, named.target)
        if found is not None and str(found.chain) in used():
            raise Conflict("remove image", _shown(name), "containers stand on it", "remove them first: asyncrt ps -a")
    for one in doomed:
        await images.names.drop(one)
    return await collect(images, used)


async def prune(images: Images, used: Callable[[], set[str]], all: bool) -> tuple[list[str], list[str]]:
    """Forget images without a name that no container stands on, with `all` those with one, too.

    (their names and digests, the digests of the blobs that went)
    """
    kept, gone = used(), list[str]()
    for one in images.names:
        if not all and not is_bare(one.name):
            continue
        found = await images.attempt(one.name, one.target)
        if found is not None and (str(found.chain) in kept or found.image.descriptor.digest in kept):
            continue
        await images.names.drop(one)
        gone.append(one.name)
    return gone, await collect(images, used)


async def collect(images: Images, used: Callable[[], set[str]]) -> list[str]:
    """Remove the blobs and layers that no name and no container needs; later, if something is under way now."""
    async with images.lock:
        if images.users:
            return []  # the next collection takes it
        return await _collect(images, used)


async def _collect(images: Images, used: Callable[[], set[str]]) -> list[str]:
    kept = used()
    for one in images.names:
        found = await images.attempt(one.name, one.target)
        if found is not None:
            kept |= {str(chain) for chain in chain_ids(diff_ids(found.image))}
    children, roots = dict(images.names.edges), [*(one.target.digest for one in images.names), *kept]

    def sweep() -> list[str]:
        live = reachable(roots, children)
        gone = [str(digest) for digest in images.content.collect(lambda: live)]
        _drop_layers(images, kept)
        return gone

    return await trio.to_thread.run_sync(sweep)


def _drop_layers(images: Images, kept: set[str]) -> None:
    """From the top down; what a kept layer stands on stays, as its Conflict says."""
    waiting = [chain for chain in images.snapshots.layers.chains() if str(chain) not in kept]
    while waiting:
        left = []
        for chain in waiting:
            try:
                images.snapshots.layers.remove(chain)
            except Conflict:
                left.append(chain)
        if len(left) == len(waiting):
            return
        waiting = left


def _plainly(text: str) -> str:
    """The name that was written, as people write it; what is no name is an id."""
    try:
        return references.parse(text).familiar()
    except AsyncrtError:
        return ""


def _shown(name: str) -> str:
    return name if is_bare(name) else familiar(name)
