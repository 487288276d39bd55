"""cp: between a container's tree and a directory or tar of the caller's, both ends on fds.

A container that runs is seen by the root of its first process: with its volumes, as it sees it itself. One that does
not is mounted aside for the time (supervisor/aside.py), and waits with its start until that is over. A path in a
container is resolved once, by openat2(2) in that root; from there on nothing is followed. We never enter the container:
no chroot, no setns, so none of its files can become our code (CVE-2019-14271), and what it swaps meanwhile leads
nowhere (CVE-2018-15664). docs/decisions/0023-copying.md.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from asyncrt.engine import defaults
from asyncrt.engine.contents import source_of, writer_to
from asyncrt.engine.engine import Engine
from asyncrt.errors import AsyncrtError, BadRequest, Conflict, NoSuchObject, StorageFailed
from asyncrt.images.tars import plain
from asyncrt.layers import changes
from asyncrt.layers.feed import Feed
from asyncrt.layers.limits import DEFAULT
from asyncrt.layers.pack import packed
from asyncrt.layers.place import Placer
from asyncrt.layers.reader import Reader
from asyncrt.layers.streams import piped
from asyncrt.layers.walk import Found
from asyncrt.model.container import Container
from asyncrt.model.tree_requests import CopyFrom, CopyTo, Stat
from asyncrt.supervisor import aside
from shimd.linux.paths import MOST_LINKS, open_in_root

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
T = TypeVar("T")


async def stat_path(engine: Engine, container: Container, path: str, follow: bool) -> Stat:
    """What a path is. NoSuchObject."""

    def look(root: int) -> Stat:
        parent, name = _locate(root, path, follow)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            link = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(status.st_mode) else b""
        finally:
            os.close(parent)
        return Stat(
            _own_name(path),
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_uid,
            status.st_gid,
            os.fsdecode(link).encode(errors="replace").decode(),
        )

    return await _in_root(engine, container, look, path, writable=False)


async def copy_from(engine: Engine, container: Container, wish: CopyFrom, fd: int) -> int:
    """To a directory, or as a tar to anything else. NoSuchObject, BadRequest, StorageFailed; the count of entries."""
    into_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    check = trio.from_thread.check_cancelled

    def copy(root: int) -> int:
        parent, name = _locate(root, wish.path, wish.follow)
        try:
            shown = b"" if wish.contents else os.fsencode(wish.name or _own_name(wish.path))
            if b"/" in shown or shown in (b".", b".."):
                raise BadRequest("copy", wish.name, "that is no name of a file")
            found = packed(parent, name, shown, _spared(root))
            if not into_directory:
                return _written(found, writer_to(fd, "copy"), check)
            with piped(lambda sink: _written(found, sink, _never, holes=True)) as chunks:
                return Placer(fd, check, wish.owners).run(Reader(Feed(chunks), DEFAULT))
        finally:
            os.close(parent)

    return await _in_root(engine, container, copy, wish.path, writable=False)


async def copy_to(engine: Engine, container: Container, wish: CopyTo, fd: int) -> int:
    """From a directory, or a tar. NoSuchObject: there is nothing at the path, nor a directory above it."""
    check = trio.from_thread.check_cancelled
    from_directory = stat.S_ISDIR(os.fstat(fd).st_mode)

    def copy(root: int) -> int:
        if not from_directory:
            target = _directory(root, wish.path)
            try:
                chunks = plain(fd, check)
                return _unpacked(Feed(chunks), Placer(target, check, owners=True), "archive")
            finally:
                os.close(target)
        source = b"." if wish.contents else os.fsencode(wish.name)
        own = b"" if wish.contents else os.fsencode(wish.called) or source
        if b"/" in own or own in (b".", b"..") or b"/" in source:
            raise BadRequest("copy", os.fsdecode(source), "that is no name of a file")
        status = os.stat(source, dir_fd=fd, follow_symlinks=False)
        is_directory = stat.S_ISDIR(status.st_mode)
        target, called = _destination(root, wish.path, own, is_directory)
        try:
            found = packed(fd, source, called)
            with piped(lambda sink: _written(found, sink, _never, holes=True)) as pieces:
                return _unpacked(Feed(pieces), Placer(target, check, wish.owners), os.fsdecode(source))
        finally:
            os.close(target)

    return await _in_root(engine, container, copy, wish.path, writable=True)


def _never() -> None:
    """Who reads ends it."""


def _unpacked(feed: Feed, placer: Placer, subject: str) -> int:
    try:
        return placer.run(Reader(feed, DEFAULT))
    except AsyncrtError as error:
        if error.subject:
            raise
        raise type(error)("copy", subject, error.cause, error.hint, error.code) from error


def _written(
    found: Iterator[Found], sink: Callable[[bytes], object], check: Callable[[], None], holes: bool = False
) -> int:
    count = 0

    def counted() -> Iterator[Found]:
        nonlocal count
        for one in found:
            count += 1
            yield one

    changes.write(counted(), sink, "plain", check, live=True, holes=holes)
    return count


# where things are


async def _in_root(engine: Engine, container: Container, deed: Callable[[int], T], path: str, writable: bool) -> T:
    """The deed, with the container's root as an fd, in a thread. What it raises of the path in our words."""
    if "\0" in path:
        raise BadRequest("copy", container.name, "there is a NUL character in the path")
    subject = f"{container.name}:{path}"

    def run() -> T:
        with _root(engine, container, writable) as root:
            try:
                return deed(root)
            except FileNotFoundError:
                raise NoSuchObject("copy", subject, "there is no such file or directory") from None
            except NotADirectoryError:
                raise BadRequest("copy", subject, "a part of it is no directory") from None
            except OSError as error:
                raise StorageFailed("copy", subject, (error.strerror or str(error)).lower()) from error

    if container.state in ("running", "paused"):
        return await trio.to_thread.run_sync(run)
    async with engine.held(container.id, "copy", container.name):
        return await trio.to_thread.run_sync(run)


@contextmanager
def _root(engine: Engine, container: Container, writable: bool) -> Iterator[int]:
    if container.state in ("running", "paused"):
        try:
            root = aside.running_root(container.pid, engine.cgroups.of(container.id))
        except (ProcessLookupError, FileNotFoundError) as error:
            raise Conflict("copy", container.name, "it ended in this moment", "try again") from error
        try:
            yield root
        finally:
            os.close(root)
        return
    source = engine.directories.snapshots.init_layers.under(source_of(engine, container))
    recipe = engine.directories.snapshots.mount(container.id, source, False)
    binds = [(one.source, one.target) for one in container.options.volumes]
    binds += engine.directories.volumes_of(container.id, container.options.image_volumes)
    with aside.mounted(recipe, binds, writable) as root:
        yield root


def _locate(root: int, path: str, follow: bool) -> tuple[int, bytes]:
    """(an fd on the directory that has it, its name there): the path resolved up to its last part.

    A symlink there is followed with `follow`, or where the path says that it is a directory ("x/", "x/."). A path that
    ends in a directory's own name for itself is that directory, as ".". OSError.
    """
    asserted = _asserts_directory(path)
    for _ in range(MOST_LINKS):
        above, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return open_in_root(root, path, _DIRECTORY), b"."
        parent = open_in_root(root, above, _DIRECTORY)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not (stat.S_ISLNK(status.st_mode) and (follow or asserted)):
                if asserted and not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                return parent, os.fsencode(name)
            target = os.readlink(name, dir_fd=parent)
        except BaseException:
            os.close(parent)
            raise
        os.close(parent)
        path = target if target.startswith("/") else f"{above}/{target}"
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _asserts_directory(path: str) -> bool:
    return path.endswith(("/", "/."))


def _own_name(path: str) -> str:
    """The last part of a path; "" of the root."""
    name = os.path.basename(os.path.normpath("/" + path))
    return "" if name in ("/", ".", "..") else name


def _directory(root: int, path: str) -> int:
    """The directory that a tar is unpacked into. BadRequest: something else."""
    try:
        return open_in_root(root, path, _DIRECTORY)
    except NotADirectoryError:
        raise BadRequest("copy", f"to {path}", "a tar needs a directory to be unpacked into") from None


def _destination(root: int, path: str, name: bytes, is_directory: bool) -> tuple[int, bytes]:
    """(the directory to copy into, what the copy is called there, b"" for its content alone); docker's rules.

    A directory that is there takes the source into it. A file that is there is replaced by a file. What is not there
    is made, in a directory that is; "x/" is not made of a file.
    """
    try:
        return open_in_root(root, path, _DIRECTORY), name
    except FileNotFoundError:
        there = False
    except NotADirectoryError:
        there = True
    if there and is_directory:
        raise BadRequest("copy", f"to {path}", "a directory cannot be put in a file's place")
    if _asserts_directory(path) and not is_directory:
        raise (BadRequest if there else NoSuchObject)("copy", f"to {path}", "there is no such directory")
    return _locate_new(root, path.rstrip("/"))


def _locate_new(root: int, path: str) -> tuple[int, bytes]:
    """As _locate, for what may not be there; a symlink at the end is followed, as docker does."""
    for _ in range(MOST_LINKS):
        above, _, name = path.rpartition("/")
        parent = open_in_root(root, above, _DIRECTORY)
        try:
            target = os.readlink(name, dir_fd=parent)
        except FileNotFoundError:
            return parent, os.fsencode(name)
        except OSError as error:
            if error.errno == errno.EINVAL:  # no symlink
                return parent, os.fsencode(name)
            os.close(parent)
            raise
        os.close(parent)
        path = (target if target.startswith("/") else f"{above}/{target}").rstrip("/")
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _spared(root: int) -> frozenset[tuple[int, int]]:
    """The kernel's own file systems, which a copy of all that is above them does not go into."""
    found = set()
    for mount in defaults.MOUNTS:
        try:
            place = open_in_root(root, mount.destination)
        except OSError:
            continue
        status = os.fstat(place)
        os.close(place)
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)
