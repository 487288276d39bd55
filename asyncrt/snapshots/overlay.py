"""Snapshots as overlay layers: a directory a layer, a directory a container, made and removed, never mounted.

    ROOT/snapshots/KEY/fs      upper: what the container wrote; 0755 or what the lower root has
    ROOT/snapshots/KEY/work    overlayfs's own
    ROOT/layers/overlay/       the committed layers: shelf.py
    ROOT/layers/init/          what containers have of their own: init_layer.py

A committed layer holds what its own tar has and nothing of those below, so layers are unpacked side by side; what it
left unsaid about directories it takes over from below when it is committed (inherit.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from asyncrt.errors import BadImage, StorageFailed
from asyncrt.model.digest import Digest
from asyncrt.snapshots.active import Active, Lower, Usage
from asyncrt.snapshots.borrow import borrow
from asyncrt.snapshots.inherit import inherit
from asyncrt.snapshots.init_layer import InitLayers
from asyncrt.snapshots.shelf import Begun, Shelf
from asyncrt.snapshots.sources import Source
from shimd.wire.messages import RootMount

__all__ = ["Overlay", "Usage"]


class Overlay(Active):
    """The snapshots of the engine whose place is `root`.

    mounts = overlay.prepare(["0123abcd"], source, read_only=False)    # a RootMount a key
    overlay.remove(["0123abcd"])
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root / "snapshots")
        self.layers = Shelf(root / "layers" / "overlay")
        self.init_layers = InitLayers(root / "layers" / "init")

    name = "overlay"
    style: Literal["overlay"] = "overlay"
    stacked = True

    @staticmethod
    def supported() -> None:
        """StorageFailed if this kernel has no overlay file system. To be asked once, at start-up.

        filesystems(5) lists a module only once it is loaded: where it is missing it is asked for first.
        """
        for attempt in range(2):
            if "overlay" in Path("/proc/filesystems").read_text().split():
                return
            if attempt == 0:
                with contextlib.suppress(OSError):
                    subprocess.run(["modprobe", "-q", "overlay"], check=False, timeout=10)
        raise StorageFailed(
            "use overlay",
            "/proc/filesystems",
            "this kernel has no overlay file system",
            "load the module overlay; snapshots that work without it are to come",
        )

    def begin(self, chain: Digest, parent: Digest | None) -> Begun:
        """An empty directory for a layer; its parent may still be on its way."""
        return self.layers.begin(chain, parent)

    def commit(
        self, begun: Begun, implicit: Sequence[bytes] = (), borrowed: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """Show the layer. Conflict: its parent is not there. BadImage: it has links to what is nowhere.

        `implicit` are its directories that no entry described, `borrowed` its hardlinks to files that it has not.
        """
        below = self.layers.trees(begun.parent) if begun.parent is not None else []
        if borrowed or (implicit and below):
            try:
                made = borrow(begun.tree, borrowed, below) if borrowed else []
                inherit(begun.tree, [*implicit, *made], below)
            except OSError as error:
                cause = (error.strerror or str(error)).lower()
                if error.errno == errno.ELOOP:
                    raise BadImage("commit layer", str(begun.chain), f"{cause}, in the layers below it") from error
                raise StorageFailed("commit layer", str(begun.chain), cause) from error
            except BadImage as error:
                raise BadImage(error.deed, error.subject or str(begun.chain), error.cause, error.hint) from None
        self.layers.commit(begun)

    def source(self, chain: Digest) -> Source:
        """What a container of this chain stands on. NoSuchObject: it is not there."""
        top, *below = self.layers.trees(chain)
        return Source("image", top, tuple(below))

    def mount(self, key: str, source: Source, read_only: bool) -> RootMount:
        """The mount of a prepared snapshot, over `source` as when it was made."""
        place = f"{self.directory}/{key}"
        lower = [*([source.init] if source.init else []), source.path, *source.below]
        return RootMount("overlay", lower, upper=f"{place}/fs", work=f"{place}/work", read_only=read_only)

    def _fill(self, directory: int, key: str, source: Source, lower: Lower) -> None:
        os.mkdir(f"{key}/work", 0o700, dir_fd=directory)
        upper = f"{key}/fs"
        os.mkdir(upper, lower.mode, dir_fd=directory)
        # By path: nobody else can enter what was made 0700 just now. The umask may have cut the mode.
        if lower.uid or lower.gid:
            os.chown(upper, lower.uid, lower.gid, dir_fd=directory)
        if stat.S_IMODE(os.stat(upper, dir_fd=directory).st_mode) != lower.mode:
            os.chmod(upper, lower.mode, dir_fd=directory)
