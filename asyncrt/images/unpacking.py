"""A whole image from the store to layers that containers stand on: all at once, each once.

    unpacking = Unpacking(content, snapshots)
    chain = await unpacking.unpack(layers)              # many may ask, for images that share layers
    source = snapshots.source(chain)

Where layers are stacked they are unpacked side by side, and committed from the lowest up; where they are copied one
comes after the other. A layer may be asked for while it is still being fetched: `ready` waits for it.

A layer that somebody unpacks already is waited for. Whoever waits has all that it needs to do it itself: if the other
is cancelled or fails, the next one begins it again.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import trio

from asyncrt.content.store import Content
from asyncrt.errors import AsyncrtError, BadImage
from asyncrt.images.together import together
from asyncrt.layers.apply import Applied, apply
from asyncrt.layers.limits import DEFAULT, Limits
from asyncrt.model.descriptor import Descriptor
from asyncrt.model.digest import Digest, chain_ids
from asyncrt.snapshots.native import Native
from asyncrt.snapshots.overlay import Overlay
from asyncrt.snapshots.shelf import Begun

Ready = Callable[[Descriptor], Awaitable[None]]


class Layer(NamedTuple):
    """One layer of an image: the blob, and the digest of its tar that the image's config says."""

    descriptor: Descriptor
    diff_id: Digest


class _Step(NamedTuple):
    """A layer at its place in the stack."""

    layer: Layer
    chain: Digest
    parent: Digest | None


async def _there(descriptor: Descriptor) -> None:
    """Nothing is to be waited for: the blob is in the store."""


class Unpacking:
    """The layers that are being unpacked into one snapshotter."""

    def __init__(
        self,
        content: Content,
        snapshots: Overlay | Native,
        at_once: int | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        """`at_once`: layers that are unpacked at the same time; None means one a processor, and one more."""
        self._content = content
        self._snapshots = snapshots
        self._limits = limits
        self._limiter = trio.CapacityLimiter(at_once or (os.cpu_count() or 1) + 1)
        self._busy: set[Digest] = set()
        self._changed = trio.Event()

    async def unpack(self, layers: Sequence[Layer], ready: Ready = _there) -> Digest:
        """Have all layers, the lowest first, and say the chainID of the top. Those that are there cost nothing.

        BadImage: one is damaged, hostile or not what the config says. StorageFailed: the disk. NoSuchObject: a blob is
        not in the store. Nothing half made stays, and what was made whole does.
        """
        if not layers:
            raise BadImage("unpack image", "", "it has no layers")
        chains = chain_ids(layer.diff_id for layer in layers)
        parents = [None, *chains]
        steps = [_Step(*parts) for parts in zip(layers, chains, parents, strict=False)]
        if not self._snapshots.layers.has(chains[-1]):
            with self._content.hold(layer.descriptor.parsed for layer in layers):
                await together(partial(self._have, step, ready) for step in steps)
        return chains[-1]

    async def _have(self, step: _Step, ready: Ready) -> None:
        while not self._snapshots.layers.has(step.chain):
            if step.chain in self._busy:
                await self._changed.wait()
                continue
            self._busy.add(step.chain)
            try:
                await self._make(step, ready)
            finally:
                self._busy.discard(step.chain)
                self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _parent(self, step: _Step) -> None:
        # Somebody makes it: every unpack() has a job for each of its layers, and ends all if one fails.
        while step.parent is not None and not self._snapshots.layers.has(step.parent):
            await self._changed.wait()

    async def _make(self, step: _Step, ready: Ready) -> None:
        await ready(step.layer.descriptor)
        if not self._snapshots.stacked:
            await self._parent(step)
        begun, applied = await trio.to_thread.run_sync(self._unpack, step, limiter=self._limiter)
        try:
            await self._parent(step)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._snapshots.layers.drop, begun)
            raise
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._commit, begun, applied)

    def _unpack(self, step: _Step) -> tuple[Begun, Applied]:
        """In a thread: the layer's tar into a new directory."""
        check = trio.from_thread.check_cancelled
        layer = step.layer
        blob = self._content.open(layer.descriptor.parsed, check)
        try:
            begun = self._snapshots.begin(step.chain, step.parent)
            try:
                tree = os.open(begun.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    style = self._snapshots.style
                    applied = apply(blob, tree, style, diff_id=layer.diff_id, check=check, limits=self._limits)
                finally:
                    os.close(tree)
            except BaseException as error:
                self._drop(begun, error)
                raise
            return begun, applied
        finally:
            os.close(blob)

    def _drop(self, begun: Begun, error: BaseException) -> None:
        try:
            self._snapshots.layers.drop(begun)
        except AsyncrtError as second:
            error.add_note(f"left behind: {second}")

    def _commit(self, begun: Begun, applied: Applied) -> None:
        try:
            self._snapshots.commit(begun, applied.implicit, applied.borrowed)
        except BaseException as error:
            self._drop(begun, error)
            raise
