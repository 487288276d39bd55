"""Entries into a tree that is there already and may be in use: what `cp` does at its end, on dirfds.

    placed = Placer(directory, check, owners=True).run(reader)      # an fd

Docker's rules: directories of one name become one; a directory is never put in the place of something else, nor
something else in a directory's; all other things are replaced. Nothing is followed on the way, and nothing written in
place: a file is written without a name (O_TMPFILE) and gets it once it is whole, so whoever looks, and whatever ends
this, there is the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable

from asyncrt.errors import AsyncrtError, BadRequest, StorageFailed
from asyncrt.layers.entry import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, HARDLINK, SYMLINK, Entry
from asyncrt.layers.failures import shown
from asyncrt.layers.metadata import set_xattrs
from asyncrt.layers.reader import Reader

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_KINDS = {CHAR: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_SMALL = 1 << 16


class Placer:
    """One run into the directory `top` (an fd, not closed here)."""

    def __init__(self, top: int, check: Callable[[], None], owners: bool) -> None:
        """`owners`: as the entries say; else all is this process's own."""
        self._top = top
        self._check = check
        self._owners = owners
        self._path: list[bytes] = []
        self._fds = [top]
        self._late: list[Entry] = []
        self._reader: Reader

    def run(self, reader: Reader) -> int:
        """Put all entries into their places; how many. BadRequest, BadImage (of the tar) or StorageFailed."""
        self._reader = reader
        entry, count = None, 0
        try:
            for entry in reader:
                self._check()
                count += 1
                if entry.name:
                    self._place(entry)
            entry = None
            for entry in reversed(self._late):
                self._dress_directory(entry)
            return count
        except OSError as error:
            subject = shown(entry.name) if entry is not None else "the tree"
            raise StorageFailed("copy", subject, (error.strerror or str(error)).lower()) from error
        except AsyncrtError as error:
            if entry is None or error.subject:
                raise
            raise type(error)(error.deed, shown(entry.name), error.cause, error.hint, error.code) from error
        finally:
            self._back_to([])

    def _place(self, entry: Entry) -> None:
        *above, base = entry.name.split(b"/")
        directory = self._enter(above)
        if entry.kind == DIRECTORY:
            self._directory(entry, directory, base)
            return
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
                raise BadRequest("copy", shown(entry.name), "there is a directory of that name", "remove it first")
        if entry.kind == FILE:
            self._file(entry, directory, base)
        elif entry.kind == HARDLINK:
            self._hardlink(entry, directory, base)
        else:
            spare = _spare()
            self._special(entry, directory, spare)
            self._rename(directory, spare, base)

    def _enter(self, above: list[bytes]) -> int:
        """The directory of an entry, made with what is above it if it is not there."""
        common = 0
        while common < min(len(above), len(self._path)) and above[common] == self._path[common]:
            common += 1
        self._back_to(self._path[:common])
        for part in above[common:]:
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=self._fds[-1])
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=self._fds[-1])
                inner = os.open(part, _DIRECTORY, dir_fd=self._fds[-1])
                os.fchmod(inner, 0o755)  # the supervisor's umask cut it
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    there = shown(b"/".join((*self._path, part)))
                    raise BadRequest("copy", there, "it is no directory there, and is not replaced by one") from None
                raise
            self._fds.append(inner)
            self._path.append(part)
        return self._fds[-1]

    def _back_to(self, path: list[bytes]) -> None:
        while len(self._path) > len(path):
            self._path.pop()
            os.close(self._fds.pop())

    def _directory(self, entry: Entry, directory: int, base: bytes) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=directory, follow_symlinks=False).st_mode):
                cause = "something is there that is no directory"
                raise BadRequest("copy", shown(entry.name), cause, "remove it first") from None
        self._late.append(entry)

    def _dress_directory(self, entry: Entry) -> None:
        """Once nothing is made in it any more: its times would change."""
        *above, base = entry.name.split(b"/")
        try:
            file = os.open(base, _DIRECTORY, dir_fd=self._enter(above))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return  # somebody moved it meanwhile
            raise
        try:
            self._dress(entry, file)
        finally:
            os.close(file)

    def _file(self, entry: Entry, directory: int, base: bytes) -> None:
        spare = b""
        try:
            file = os.open(b".", _NAMELESS, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            spare = _spare()
            file = os.open(spare, _NEW, 0o600, dir_fd=directory)
        try:
            self._fill(entry, file)
            self._dress(entry, file)
            if not spare:
                spare = self._name(file, directory, base)
            if spare:
                self._rename(directory, spare, base)
        except BaseException:
            if spare:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spare, dir_fd=directory)
            raise
        finally:
            os.close(file)

    def _name(self, file: int, directory: int, base: bytes) -> bytes:
        """Give a nameless file its name; if that is taken another, which is to be renamed."""
        own = b"/proc/self/fd/%d" % file
        try:
            os.link(own, base, dst_dir_fd=directory, follow_symlinks=True)
            return b""
        except FileExistsError:
            spare = _spare()
            os.link(own, spare, dst_dir_fd=directory, follow_symlinks=True)
            return spare

    def _rename(self, directory: int, spare: bytes, base: bytes) -> None:
        try:
            os.rename(spare, base, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare, dir_fd=directory)
            if error.errno == errno.EBUSY:
                raise OSError(errno.EBUSY, "a mount is there", base) from None
            raise

    def _fill(self, entry: Entry, file: int) -> None:
        if entry.sparse is not None:
            os.ftruncate(file, entry.sparse.size)
            for offset, length in entry.sparse.pieces:
                os.lseek(file, offset, os.SEEK_SET)
                for view in self._reader.part(length):
                    _write(file, view)
                    self._check()
        elif entry.stored > _SMALL:
            for view in self._reader.content():
                _write(file, view)
                self._check()
        elif entry.stored:
            _write(file, self._reader.small())

    def _hardlink(self, entry: Entry, directory: int, base: bytes) -> None:
        *above, source = entry.link.split(b"/")
        origin = os.dup(self._top)
        try:
            for part in above:
                inner = os.open(part, _DIRECTORY, dir_fd=origin)
                os.close(origin)
                origin = inner
            spare = _spare()
            os.link(source, spare, src_dir_fd=origin, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(origin)
        self._rename(directory, spare, base)
        with contextlib.suppress(FileNotFoundError):  # rename(2) of two names of one file does nothing
            os.unlink(spare, dir_fd=directory)

    def _special(self, entry: Entry, directory: int, name: bytes) -> None:
        """A symlink, device or fifo, under a name for a moment."""
        if entry.kind == SYMLINK:
            os.symlink(entry.link, name, dir_fd=directory)
        else:
            if entry.kind == CHAR and not entry.major and not entry.minor:
                raise BadRequest("copy", shown(entry.name), "a device 0:0 is overlayfs's own mark of what is gone")
            os.mknod(name, _KINDS[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=directory)
        if self._owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        path = b"/proc/self/fd/%d/%s" % (directory, name)
        if entry.kind != SYMLINK:
            held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                if not stat.S_ISLNK(os.fstat(held).st_mode):  # whoever owns the tree may have swapped it
                    os.chmod(b"/proc/self/fd/%d" % held, entry.mode)
            finally:
                os.close(held)
        if entry.xattrs:
            set_xattrs(path, entry.xattrs)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _dress(self, entry: Entry, file: int) -> None:
        """Owner before mode: chown(2) takes setuid bits away."""
        if self._owners:
            os.fchown(file, entry.uid, entry.gid)
        os.fchmod(file, entry.mode)
        if entry.xattrs:
            set_xattrs(file, entry.xattrs)
        os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))


def _spare() -> bytes:
    """A name for the moment before the real one."""
    return b".asyncrt-" + secrets.token_hex(8).encode()


def _write(file: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
