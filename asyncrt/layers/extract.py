"""Entries to files: every name resolved beneath the tree's root, nothing followed, nothing overwritten in place.

    with Extractor(root, style) as extractor:       # root: an fd on the directory
        tree = extractor.run(reader)

A file is created with O_EXCL on the fd of its directory; what has its name is removed first, so nothing is written
through a symlink, hardlink or device that the layer made before. Directories get their mode, owner, xattrs and times at
the end, when nothing is made in them any more: a setgid bit, default ACL or time would be in the way before.

Four system calls for a plain file of root's: open, write, utimensat, close. Python's own part of that is the header.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from asyncrt.errors import AsyncrtError
from asyncrt.layers.directories import Directories
from asyncrt.layers.entry import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry
from asyncrt.layers.failures import failure, shown
from asyncrt.layers.metadata import Finisher, set_xattrs, unmasked
from asyncrt.layers.numbers import malformed
from asyncrt.layers.prune import prune
from asyncrt.layers.reader import Reader
from asyncrt.layers.whiteouts import PREFIX, Style, Whiteout, parse
from asyncrt.snapshots import removal

SMALL = 1 << 16  # bytes of a file that is taken in one piece
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECK_EVERY = 128  # entries


class Tree(NamedTuple):
    """What was made. `written` are the bytes of files; `implicit` the directories that no entry described.

    `dropped` are the xattrs that were not set: those of overlayfs itself, of security modules, of trusted.*.
    `borrowed` are the hardlinks, (name, target), to what only layers below can have: sockets stand in their places.
    """

    entries: int
    written: int
    implicit: tuple[bytes, ...]
    dropped: int
    borrowed: tuple[tuple[bytes, bytes], ...] = ()


class Extractor:
    """One layer into one directory. `check` is called now and then and may raise to end it."""

    def __init__(
        self,
        root: int,
        style: Style,
        check: Callable[[], None] = lambda: None,
        owners: bool | None = None,
    ) -> None:
        """`owners`: whether to set them; None means if this process may. Without, all is the process's own."""
        self._root = root
        self._style = style
        self._check = check
        self._owners = os.geteuid() == 0 if owners is None else owners
        # A new file is root's, unless its directory has a setgid bit: none has one before the end in a fresh tree.
        self._always_own = self._owners and (style == "remove" or os.geteuid() != 0 or os.getegid() != 0)
        self._mode_mask = unmasked()
        self._finisher = Finisher(root, style, self._owners)
        touch = None
        if style == "remove":
            touch = self._finisher.touch
            touch(b"", root)
        self._opened = Directories(root, self._implicit_directory, touch)
        # The paths that this layer made, and all above them: only asked where whiteouts remove.
        self._made: set[bytes] | None = {b""} if style == "remove" else None
        self._hidden: set[bytes] = set()  # whiteouts that were made as devices
        self._borrowed: dict[bytes, bytes] = {}  # placeholders, and what they stand for
        self._lent: dict[int, bytes] = {}  # the same by their inodes
        self._written = 0
        self._dropped = 0
        self._reader: Reader
        self._deeds: Mapping[bytes, Callable[[Entry, int, bytes], None]] = {
            FILE: self._file,
            HARDLINK: self._hardlink,
            SYMLINK: self._symlink,
            CHAR: self._device,
            BLOCK_DEVICE: self._device,
            DIRECTORY: self._directory,
            FIFO: self._device,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.forget()

    def run(self, reader: Reader) -> Tree:
        """Make all entries. BadImage names the entry that is at fault, StorageFailed what the disk refused."""
        self._reader = reader
        entry = None
        deeds, opened, made = self._deeds, self._opened, self._made
        count = 0
        try:
            for entry in reader:
                count += 1
                if not count % _CHECK_EVERY:
                    self._check()
                name = entry.name
                if PREFIX in name and (whiteout := parse(name)):
                    self._whiteout(whiteout)
                    continue
                if not name:
                    if entry.kind != DIRECTORY:
                        raise malformed("the root of the tree is no directory")
                    self._finisher.late[b""] = entry
                    continue
                above, _, base = name.rpartition(b"/")
                deeds[entry.kind](entry, opened.open(above), base)
                if made is not None:
                    self._note(name)
            entry = None
            self._finisher.finish()
        except OSError as error:
            raise failure(entry, error) from error
        except AsyncrtError as error:
            if entry is None or error.subject:
                raise
            raise type(error)(error.deed, shown(entry.name), error.cause, error.hint, error.code) from error
        dropped = self._dropped + self._finisher.dropped
        return Tree(count, self._written, tuple(self._finisher.implicit), dropped, tuple(self._borrowed.items()))

    # One deed for each kind of entry: (entry, fd of its directory, its name there)

    def _file(self, entry: Entry, directory: int, base: bytes) -> None:
        mode = entry.mode
        try:
            file = os.open(base, _CREATE, mode & 0o777, dir_fd=directory)
        except FileExistsError:
            file = os.open(base, _CREATE, mode & 0o777, dir_fd=self._clear(entry, directory, base))
        try:
            if entry.sparse is not None:
                self._sparse(entry, file)
            elif entry.stored > SMALL:
                for view in self._reader.content():
                    _write(file, view)
                    self._check()
            elif entry.stored:
                _write(file, self._reader.small())
            self._written += entry.stored
            if self._always_own or (self._owners and (entry.uid or entry.gid)):
                os.chown(file, entry.uid, entry.gid)
                os.chmod(file, mode)
            elif mode & self._mode_mask:
                os.chmod(file, mode)
            if self._made is not None:
                _remove_inherited_acl(file)
            if entry.xattrs:
                self._dropped += set_xattrs(file, entry.xattrs)
            mtime = entry.mtime_ns
            os.utime(file, ns=(mtime if entry.atime_ns is None else entry.atime_ns, mtime))
        finally:
            os.close(file)

    def _sparse(self, entry: Entry, file: int) -> None:
        assert entry.sparse is not None
        os.ftruncate(file, entry.sparse.size)
        for offset, length in entry.sparse.pieces:
            os.lseek(file, offset, os.SEEK_SET)
            for view in self._reader.part(length):
                _write(file, view)
                self._check()

    def _directory(self, entry: Entry, directory: int, base: bytes) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
                os.mkdir(base, 0o700, dir_fd=self._clear(entry, directory, base))
        if entry.name in self._hidden:
            self._finisher.opaque.add(entry.name)
        self._finisher.describe(entry)

    def _hardlink(self, entry: Entry, directory: int, base: bytes) -> None:
        above, _, source = entry.link.rpartition(b"/")
        if entry.link == entry.name:
            raise malformed("a hardlink to itself")
        if not source:
            raise malformed("a hardlink to the root of the tree")
        try:
            origin = self._opened.find(above)
            status = os.stat(source, dir_fd=origin, follow_symlinks=False)
        except FileNotFoundError:
            return self._borrow(entry, directory, base)
        if stat.S_ISDIR(status.st_mode):
            raise malformed("a hardlink to a directory")
        if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
            raise malformed("a hardlink to what the layer takes away")
        if stat.S_ISSOCK(status.st_mode):
            return self._borrow(entry._replace(link=self._lent[status.st_ino]), directory, base)
        try:
            os.link(source, base, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            there = os.stat(base, dir_fd=directory, follow_symlinks=False)
            if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                return  # by another name, through a symlink: linked already
            directory = self._clear(entry, directory, base)
            origin = self._opened.find(above)
            os.link(source, base, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)

    def _borrow(self, entry: Entry, directory: int, base: bytes) -> None:
        """A placeholder for a hardlink to what layers below have: a socket, which no entry of a tar can be."""
        if self._style == "remove":
            raise malformed(f'a hardlink to "{shown(entry.link)}", which is in no layer')
        self._borrowed.pop(entry.name, None)  # so that it comes last
        try:
            os.mknod(base, stat.S_IFSOCK | 0o600, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(entry, directory, base)
            os.mknod(base, stat.S_IFSOCK | 0o600, dir_fd=directory)
        self._lent[os.stat(base, dir_fd=directory, follow_symlinks=False).st_ino] = entry.link
        self._borrowed[entry.name] = entry.link

    def _symlink(self, entry: Entry, directory: int, base: bytes) -> None:
        try:
            os.symlink(entry.link, base, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(entry, directory, base)
            os.symlink(entry.link, base, dir_fd=directory)
        self._dress(entry, directory, base)

    def _device(self, entry: Entry, directory: int, base: bytes) -> None:
        if entry.kind == CHAR and not entry.major and not entry.minor:
            raise malformed("a device 0:0, which is overlayfs's own whiteout")
        kind = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}[entry.kind]
        number = os.makedev(entry.major, entry.minor)
        try:
            os.mknod(base, kind | (entry.mode & 0o777), number, dir_fd=directory)
        except FileExistsError:
            directory = self._clear(entry, directory, base)
            os.mknod(base, kind | (entry.mode & 0o777), number, dir_fd=directory)
        self._dress(entry, directory, base)

    def _dress(self, entry: Entry, directory: int, base: bytes) -> None:
        """Owner, mode, xattrs and times of what is not to be opened."""
        if self._always_own or (self._owners and (entry.uid or entry.gid)):
            os.chown(base, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        path = b"/proc/self/fd/%d/%s" % (directory, base)
        if entry.kind != SYMLINK and (self._always_own or entry.mode & (self._mode_mask | 0o7000)):
            os.chmod(path, entry.mode)  # made by us just now, in a directory that nobody else enters
        if entry.xattrs:
            self._dropped += set_xattrs(path, entry.xattrs)
        mtime = entry.mtime_ns
        times = (mtime if entry.atime_ns is None else entry.atime_ns, mtime)
        os.utime(base, ns=times, dir_fd=directory, follow_symlinks=False)

    # What is in the way, what is missing, what goes

    def _clear(self, entry: Entry, directory: int, base: bytes) -> int:
        """Remove what has the name of an entry that is no directory's; the fd of its directory, perhaps a new one."""
        mode = os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            failures = removal.remove_tree(directory, os.fsdecode(base), os.fsdecode(entry.name))
            if failures:
                raise OSError(errno.EIO, str(failures[0]))
            self._finisher.forget(entry.name)
        else:
            os.unlink(base, dir_fd=directory)
        if not stat.S_ISREG(mode):
            self._opened.forget()
            return self._opened.open(entry.name.rpartition(b"/")[0])
        return directory

    def _implicit_directory(self, directory: int, base: bytes, path: bytes) -> None:
        """Make a directory that no entry has described so far."""
        try:
            os.mkdir(base, 0o755, dir_fd=directory)
        except FileExistsError:
            if path not in self._hidden:  # a file, or a symlink that leads nowhere
                raise malformed(f"{path[:200]!r} is no directory, yet something is to lie in it") from None
            os.unlink(base, dir_fd=directory)
            os.mkdir(base, 0o755, dir_fd=directory)
        if path in self._hidden:
            self._finisher.opaque.add(path)
        self._finisher.implicit[path] = None
        if self._made is not None:
            self._note(path)

    def _whiteout(self, whiteout: Whiteout) -> None:
        if not whiteout.effect:
            return
        if self._made is not None:
            self._remove(whiteout)
        elif whiteout.opaque:
            self._opened.open(whiteout.path)
            self._finisher.opaque.add(whiteout.path)
        else:
            above, _, base = whiteout.path.rpartition(b"/")
            directory = self._opened.open(above)
            self._hidden.add(whiteout.path)
            try:
                os.mknod(base, stat.S_IFCHR, 0, dir_fd=directory)
            except FileExistsError:
                # Whiteouts are for the layers below. What this layer has stays, but a directory hides theirs.
                if stat.S_ISDIR(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
                    self._finisher.opaque.add(whiteout.path)

    def _remove(self, whiteout: Whiteout) -> None:
        """Remove from the tree what the layers below had."""
        assert self._made is not None
        above, _, base = whiteout.path.rpartition(b"/")
        try:
            directory = self._opened.find(whiteout.path if whiteout.opaque else above)
        except (FileNotFoundError, NotADirectoryError):
            return
        if whiteout.opaque:
            prune(directory, whiteout.path, self._made)
        else:
            prune(directory, above, self._made, only=base)
        self._opened.forget()

    def _note(self, path: bytes) -> None:
        assert self._made is not None
        while path not in self._made:
            self._made.add(path)
            path = path.rpartition(b"/")[0]


def _remove_inherited_acl(file: int) -> None:
    """In a tree that has final directories a new file may have got an ACL from one."""
    try:
        os.removexattr(file, "system.posix_acl_access")
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def _write(file: int, data: bytes | memoryview) -> None:
    """All of it: write(2) may take a part, at a signal or near the end of a disk."""
    done = os.write(file, data)
    while done < len(data):
        view = memoryview(data)[done:]
        done += os.write(file, view)
