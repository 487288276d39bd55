"""Snapshots as whole copies: for file systems and kernels without overlay. Slow, and plain to see.

    ROOT/snapshots-native/KEY/fs    a container's own copy of all
    ROOT/layers/native/             the committed layers, each with all that lies below it: shelf.py

A layer is unpacked over a copy of its parent, so layers come one after the other, and a whiteout removes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from asyncrt.errors import BadRequest, StorageFailed
from asyncrt.model.digest import Digest
from asyncrt.snapshots.active import Active, Lower
from asyncrt.snapshots.copying import copy_tree
from asyncrt.snapshots.shelf import Begun, Shelf
from asyncrt.snapshots.sources import Source
from shimd.wire.messages import RootMount

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Native(Active):
    """The copying snapshots of the engine whose place is `root`; as Overlay."""

    name = "native"
    style: Literal["remove"] = "remove"
    stacked = False

    def __init__(self, root: Path) -> None:
        super().__init__(root / "snapshots-native")
        self.layers = Shelf(root / "layers" / "native")

    def begin(self, chain: Digest, parent: Digest | None) -> Begun:
        """A copy of the parent to unpack a layer over. NoSuchObject: the parent is not there."""
        below = self.layers.trees(parent)[0] if parent is not None else None
        begun = self.layers.begin(chain, parent)
        if below is not None:
            try:
                _copy(below, begun.tree)
            except OSError as error:
                self.layers.drop(begun)
                raise StorageFailed("copy layer", str(parent), (error.strerror or str(error)).lower()) from error
        return begun

    def commit(
        self, begun: Begun, implicit: Sequence[bytes] = (), borrowed: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Show the layer; of what lies below it all was there. Conflict: its parent is not."""
        self.layers.commit(begun)

    def source(self, chain: Digest) -> Source:
        """What a container of this chain stands on. NoSuchObject: it is not there."""
        return Source("image", self.layers.trees(chain)[0])

    def mount(self, key: str, source: Source, read_only: bool) -> RootMount:
        """The mount of a prepared snapshot: the copy itself."""
        return RootMount("bind", [f"{self.directory}/{key}/fs"], read_only=read_only)

    def _fill(self, directory: int, key: str, source: Source, lower: Lower) -> None:
        if source.kind == "host":
            raise BadRequest("copy image", "host:", "the machine's own root is not copied", "host: needs overlay")
        os.mkdir(f"{key}/fs", 0o700, dir_fd=directory)
        _copy(source.path, f"{self.directory}/{key}/fs")


def _copy(origin: str, target: str) -> None:
    old = os.open(origin, _DIRECTORY)
    try:
        new = os.open(target, _DIRECTORY)
        try:
            copy_tree(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)
