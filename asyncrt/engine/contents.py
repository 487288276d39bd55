"""What is in a container's tree, without its mounts: `diff`, `export`, and the layer of a commit.

Read from the layers and the upper directory themselves (snapshots/stack.py), whether the container runs or not. The
init layer, volumes, /proc, /sys and /dev are no part of it, nor is what was made to mount these on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from asyncrt.engine import defaults
from asyncrt.engine.engine import Engine
from asyncrt.errors import BadRequest, StorageFailed
from asyncrt.layers import changes, patient, upper
from asyncrt.layers.deflate import Written
from asyncrt.layers.upper import LeftOut
from asyncrt.model.container import Container
from asyncrt.snapshots.init_layer import PATHS
from asyncrt.snapshots.sources import Source, hidden_paths, parse
from asyncrt.snapshots.stack import Level, stacked

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Contents(NamedTuple):
    """A container's tree in its parts: the upper directory (an fd), what lies below it, and what is no part."""

    upper: int
    below: Level
    left_out: LeftOut
    hidden: frozenset[bytes]


def source_of(engine: Engine, container: Container) -> Source:
    """What the container stands on. NoSuchObject: its layers are gone, its directory is."""
    image = container.options.image
    return engine.images.source(image) or parse(image)


@contextmanager
def opened(engine: Engine, container: Container) -> Iterator[Contents]:
    """The tree of a container. Blocks. StorageFailed."""
    source = source_of(engine, container)
    targets = [mount.destination for mount in defaults.MOUNTS] + [one.target for one in container.options.volumes]
    targets += container.options.image_volumes
    left_out = LeftOut(PATHS, frozenset(_relative(target) for target in targets))
    hidden = frozenset(_relative(path) for path in hidden_paths(source, engine.root, engine.state))
    fds: list[int] = []
    try:
        try:
            fds.append(os.open(f"{engine.directories.snapshots.directory}/{container.id}/fs", _DIRECTORY))
            for path in (source.path, *source.below):
                # A copy of the one mount: what is mounted below a directory of the machine is no part of an image.
                fds.append(engine.trees.open(path, False) if source.kind != "image" else os.open(path, _DIRECTORY))
            fds[1:] = [_readable(fd) for fd in fds[1:]]
        except OSError as error:
            raise _failed("open", container, error) from error
        with stacked(fds[1:]) as below:
            yield Contents(fds[0], below, left_out, hidden)
    finally:
        for fd in fds:
            os.close(fd)


def _readable(fd: int) -> int:
    """The same directory as an fd to read it by; open_tree(2) gives an O_PATH one."""
    found = os.open(".", _DIRECTORY, dir_fd=fd)
    os.close(fd)
    return found


def _relative(path: str) -> bytes:
    return os.fsencode(os.path.normpath(path).strip("/"))


def _failed(deed: str, container: Container, error: OSError) -> StorageFailed:
    return StorageFailed(deed, f"tree of {container.name}", (error.strerror or str(error)).lower())


async def diff(engine: Engine, container: Container) -> list[tuple[str, str]]:
    """(A added, C changed, D deleted; the path), by path, against the image."""

    def run() -> list[tuple[str, str]]:
        with opened(engine, container) as tree:
            try:
                found = upper.lines(tree.upper, tree.below, tree.left_out)
            except OSError as error:
                raise _failed("read", container, error) from error
            # What is no UTF-8 has no way over the socket: it is told escaped.
            return [(one.kind, one.path.decode(errors="backslashreplace")) for one in found]

    return await trio.to_thread.run_sync(run)


async def export(engine: Engine, container: Container, fd: int) -> None:
    """The whole tree as a tar, to `fd`. BadRequest: nobody takes it."""

    def run() -> None:
        with opened(engine, container) as tree:
            found = upper.whole(tree.upper, tree.below, tree.left_out, tree.hidden)
            try:
                changes.write(found, writer_to(fd, "export"), "plain", trio.from_thread.check_cancelled, live=True)
            except OSError as error:
                raise _failed("read", container, error) from error

    await trio.to_thread.run_sync(run)


def write_layer(engine: Engine, container: Container, sink: Callable[[bytes], object]) -> Written:
    """What the container changed, as a layer. Blocks."""
    with opened(engine, container) as tree:
        try:
            found = (one.change for one in upper.changed(tree.upper, tree.below, tree.left_out))
            return changes.write(found, sink, "gzip", trio.from_thread.check_cancelled)
        except OSError as error:
            raise _failed("read", container, error) from error


def writer_to(fd: int, deed: str) -> Callable[[bytes], None]:
    """A sink that writes all to an fd, and ends with the caller's request."""

    def write(data: bytes) -> None:
        try:
            patient.write(fd, data, trio.from_thread.check_cancelled)
        except OSError as error:
            raise BadRequest(deed, "to the given file", (error.strerror or str(error)).lower()) from error

    return write
