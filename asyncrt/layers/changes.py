"""What a container changed, as a layer: its overlay upper directory, or one tree held against another.

    written = of_upper(upper, sink)             # fds of directories; sink(bytes) gets the blob
    written = of_trees(before, after, sink)

Both give the same tar for the same change: names in order, whiteouts before what lies beside them, hardlinks to the
first of their names, times to the nanosecond, holes kept. A socket has no form in a layer and is left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from asyncrt.errors import AsyncrtError, StorageFailed
from asyncrt.layers.deflate import Deflated, Written
from asyncrt.layers.entry import FILE, HARDLINK, Entry
from asyncrt.layers.failures import shown
from asyncrt.layers.holes import pieces
from asyncrt.layers.inflate import Form
from asyncrt.layers.metadata import kept
from asyncrt.layers.walk import Found, enter, root_of, walk
from asyncrt.layers.whiteouts import OPAQUE, OPAQUE_XATTR, PREFIX
from asyncrt.layers.writer import Writer

_READ = 1 << 18
OPAQUES = {name.encode() for name in OPAQUE_XATTR.values()}
# An upper directory that says this is no layer by itself: it means files of the layers below by other names.
ELSEWHERE = {
    b"trusted.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"user.overlay.redirect",
    b"user.overlay.metacopy",
}
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Gone(NamedTuple):
    """A name that the layers below have and that is to be hidden; `opaque`: all that they have in the directory."""

    path: bytes
    opaque: bool = False


Change = Found | Gone


def _nothing() -> None:
    """No reason to stop."""


def of_upper(
    upper: int, sink: Callable[[bytes], object], form: Form = "gzip", check: Callable[[], None] = _nothing
) -> Written:
    """The layer that an overlay's upper directory is. StorageFailed: the disk, or it is no layer by itself."""
    return write(_upper(upper), sink, form, check)


def of_trees(
    before: int | None,
    after: int,
    sink: Callable[[bytes], object],
    form: Form = "gzip",
    check: Callable[[], None] = _nothing,
) -> Written:
    """The layer that makes `before` into `after`; of all of `after`, its root included, if there is no before.

    Files of the same size, owner, mode, xattrs and time are taken to be the same if the time has a fraction; else their
    bytes are compared.
    """
    return write(_whole(after) if before is None else _against(before, after), sink, form, check)


def _upper(upper: int) -> Iterator[Change]:
    for found in walk(upper):
        if found.is_whiteout:
            yield Gone(found.path)
            continue
        if ELSEWHERE & found.xattrs.keys():
            cause = "it was renamed or changed by overlayfs's redirect_dir or metacopy, and is no layer by itself"
            raise StorageFailed("write layer", shown(found.path), cause, "mount with redirect_dir=off,metacopy=off")
        yield found
        if found.is_directory and OPAQUES & found.xattrs.keys():
            yield Gone(found.path, opaque=True)


def _whole(after: int) -> Iterator[Change]:
    yield root_of(after)
    yield from walk(after)


def _against(before: int, after: int) -> Iterator[Change]:
    """Both trees side by side; what is only in `before` is gone."""
    stack = [(enter(before, b".", b""), enter(after, b".", b""))]
    old_root, new_root = root_of(before), root_of(after)
    try:
        if not same(old_root, new_root):
            yield new_root
        while stack:
            old, new = stack[-1]
            if not old.names and not new.names:
                for directory in stack.pop():
                    os.close(directory.fd)
                continue
            name = min(names[-1] for names in (old.names, new.names) if names)
            was = is_ = None
            if old.names and old.names[-1] == name:
                was = old.look(old.names.pop())
            if new.names and new.names[-1] == name:
                is_ = new.look(new.names.pop())
            if is_ is None:
                if was is not None:
                    yield Gone(was.path)
                continue
            if was is None or not same(was, is_):
                yield is_
            if is_.is_directory:
                if was is not None and was.is_directory:
                    stack.append((enter(old.fd, name, is_.path), enter(new.fd, name, is_.path)))
                else:
                    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=new.fd)
                    try:
                        for found in walk(inner):
                            yield found._replace(path=is_.path + b"/" + found.path)
                    finally:
                        os.close(inner)
    finally:
        for pair in stack:
            for directory in pair:
                os.close(directory.fd)


def same(was: Found, is_: Found) -> bool:
    """Whether a layer would say the same of both."""
    a, b = was.status, is_.status
    if (a.st_mode, a.st_uid, a.st_gid, a.st_mtime_ns) != (b.st_mode, b.st_uid, b.st_gid, b.st_mtime_ns):
        return False
    if _kept(was) != _kept(is_):
        return False
    if stat.S_ISREG(a.st_mode):
        return a.st_size == b.st_size and (a.st_mtime_ns % 10**9 != 0 or _same_bytes(was, is_))
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(was.name, dir_fd=was.parent) == os.readlink(is_.name, dir_fd=is_.parent)
    return a.st_rdev == b.st_rdev


def _kept(found: Found) -> dict[bytes, bytes]:
    return {name: value for name, value in found.xattrs.items() if kept(name)}


def _same_bytes(was: Found, is_: Found) -> bool:
    old = os.open(was.name, _FILE, dir_fd=was.parent)
    try:
        new = os.open(is_.name, _FILE, dir_fd=is_.parent)
        try:
            while True:
                data = os.read(old, _READ)
                if data != os.read(new, _READ):
                    return False
                if not data:
                    return True
        finally:
            os.close(new)
    finally:
        os.close(old)


def write(
    changes: Iterator[Change],
    sink: Callable[[bytes], object],
    form: Form = "gzip",
    check: Callable[[], None] = _nothing,
    live: bool = False,
    holes: bool = False,
) -> Written:
    """The layer of these changes. StorageFailed: the disk; a file that changed while it was read.

    `live`: the tree is in use. What vanishes is left out, what gets shorter is filled up with zeros, as GNU tar does.
    `holes`: sparse files as such, for a reader of ours. Elsewhere they are zeros: docker and podman read sparse
    entries, and cannot write the layer again that they have read (Go's archive/tar writes none).
    """
    deflated = Deflated(sink, form)
    writer = Writer(deflated.write)
    links: dict[tuple[int, int], bytes] = {}
    change: Change | None = None
    try:
        for change in changes:
            check()
            if isinstance(change, Gone):
                writer.entry(_whiteout(change))
            elif not stat.S_ISSOCK(change.status.st_mode):
                _add(writer, change, links, check, live, holes)
    except OSError as error:
        subject = shown(change.path) if change else "the tree"
        raise StorageFailed("write layer", subject, (error.strerror or str(error)).lower()) from error
    writer.finish()
    return deflated.finish()


def _whiteout(gone: Gone) -> Entry:
    if gone.opaque:
        name = gone.path + b"/" + OPAQUE if gone.path else OPAQUE
    else:
        above, slash, base = gone.path.rpartition(b"/")
        name = above + slash + PREFIX + base
    return Entry(name, FILE, 0o600, 0, 0, 0, 0)


def _add(
    writer: Writer,
    found: Found,
    links: dict[tuple[int, int], bytes],
    check: Callable[[], None],
    live: bool,
    holes: bool,
) -> None:
    entry = found.entry()
    status = found.status
    if status.st_nlink > 1 and not found.is_directory:
        first = links.setdefault((status.st_dev, status.st_ino), found.path)
        if first != found.path:
            writer.entry(entry._replace(kind=HARDLINK, link=first, stored=0, xattrs={}))
            return
    if entry.kind != FILE or not entry.stored:
        writer.entry(entry)
        return
    try:
        file = os.open(found.name, _FILE, dir_fd=found.parent)
    except OSError:
        if not live:
            raise
        links.pop((status.st_dev, status.st_ino), None)
        return
    try:
        if not os.path.samestat(os.fstat(file), status):
            if not live:
                raise _changed(found)
            links.pop((status.st_dev, status.st_ino), None)
            return
        sparse = pieces(file, status) if holes else None
        if sparse is not None:
            entry = entry._replace(sparse=sparse, stored=sum(length for _, length in sparse.pieces))
        writer.entry(entry)
        for position, length in sparse.pieces if sparse is not None else ((0, entry.stored),):
            end = position + length
            while position < end:
                data = os.pread(file, min(_READ, end - position), position)
                if not data:
                    if not live:
                        raise _changed(found)
                    data = bytes(min(_READ, end - position))
                writer.content(data)
                position += len(data)
                check()
    finally:
        os.close(file)


def _changed(found: Found) -> AsyncrtError:
    return StorageFailed("write layer", shown(found.path), "it changed while it was read", "pause the container first")
