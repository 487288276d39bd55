"""Modes, owners, xattrs and times: which are set, and those of directories, when nothing is made in them any more."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from asyncrt.layers.entry import Entry
from asyncrt.layers.limits import DEFAULT
from asyncrt.layers.numbers import malformed
from asyncrt.layers.whiteouts import OPAQUE_XATTR, Style
from shimd.linux.paths import open_in_root

_CAPABILITY = b"security.capability"
_KEPT = (b"user.", _CAPABILITY, b"system.posix_acl_access", b"system.posix_acl_default")
_NOT_KEPT = (b"user.overlay.",)  # overlayfs reads redirects and opaque marks in these
_LIMIT = DEFAULT.xattr_bytes


def kept(name: bytes) -> bool:
    """Whether a layer may set this extended attribute.

    Not those that steer overlayfs, that a security module gives by its own policy (security.selinux, .ima, .evm), nor
    trusted.*, which is between the kernel and this machine's root.
    """
    return name.startswith(_KEPT) and not name.startswith(_NOT_KEPT) and b"\0" not in name


def set_xattrs(target: int | bytes, xattrs: Mapping[bytes, bytes]) -> int:
    """Set those that are kept on an fd or a path that is not followed; how many were not.

    The file system's refusal is an error for file capabilities alone: a program would silently lack its power. user.*
    belongs on files and directories only (xattr(7)), so elsewhere the kernel says EPERM.
    """
    dropped = 0
    for name, value in xattrs.items():
        if not kept(name):
            dropped += 1
            continue
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if name == _CAPABILITY or error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EINVAL):
                raise
            dropped += 1
    return dropped


def unmasked() -> int:
    """The mode bits that open(2) does not give a new file: the umask's, setuid, setgid, sticky.

    umask(2) can only be asked by setting it, for all threads; proc(5) tells it.
    """
    found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    return (int(found[1], 8) if found else 0o777) | 0o7000


class Finisher:
    """The directories of a tree, as they are to be at the end.

    late      path to the entry that described it last
    implicit  those that no entry described, in the order in which they were made
    opaque    those that hide what lies below
    """

    def __init__(self, root: int, style: Style, owners: bool) -> None:
        self._root = root
        self._style = style
        self._owners = owners
        self.late: dict[bytes, Entry] = {}
        self.implicit: dict[bytes, None] = {} if style == "remove" else {b"": None}
        self.opaque: set[bytes] = set()
        self._times: dict[bytes, int] = {}  # of directories below us that changed under us
        self.dropped = 0

    def describe(self, entry: Entry) -> None:
        """An entry has said what the directory is to be."""
        self.late[entry.name] = entry
        self.implicit.pop(entry.name, None)

    def touch(self, path: bytes, directory: int) -> None:
        """Something is to be made in a directory of a layer below, whose time is to stay."""
        if path not in self._times:
            self._times[path] = os.stat(directory).st_mtime_ns

    def forget(self, path: bytes) -> None:
        """The directory and all below it are no more."""
        prefix = path + b"/"

        def gone(name: bytes) -> bool:
            return name == path or name.startswith(prefix)

        self.late = {name: entry for name, entry in self.late.items() if not gone(name)}
        self.implicit = {name: None for name in self.implicit if not gone(name)}
        self.opaque = {name for name in self.opaque if not gone(name)}
        self._times = {name: mtime for name, mtime in self._times.items() if not gone(name)}

    def finish(self) -> None:
        """Make all directories what they are to be. OSError."""
        if b"" in self.late:
            self.implicit.pop(b"", None)
        for path, mtime in self._times.items():
            if path not in self.late:
                self._on(path, partial(_set_time, mtime=mtime))
        if self._style != "remove":
            for path in self.opaque:
                self._on(path, partial(os.setxattr, attribute=OPAQUE_XATTR[self._style], value=b"y"))
        for path in self.implicit:
            # The same each time, until somebody knows better: the layers below (settle.py).
            self._on(path, _plain)
        for path, entry in self.late.items():
            self._on(path, partial(self._describe, entry=entry))

    def _on(self, path: bytes, deed: Callable[[int], object]) -> None:
        try:
            directory = open_in_root(self._root, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            raise malformed(f"{path[:200]!r} was a directory and is none") from None
        try:
            deed(directory)
        finally:
            os.close(directory)

    def _describe(self, directory: int, entry: Entry) -> None:
        if self._owners:
            os.chown(directory, entry.uid, entry.gid)
        os.chmod(directory, entry.mode)
        if self._style == "remove":
            for name in os.listxattr(directory):
                if kept(os.fsencode(name)) and os.fsencode(name) not in entry.xattrs:
                    os.removexattr(directory, name)
        if entry.xattrs:
            self.dropped += set_xattrs(directory, entry.xattrs)
        mtime = entry.mtime_ns
        os.utime(directory, ns=(mtime if entry.atime_ns is None else entry.atime_ns, mtime))


def _set_time(directory: int, mtime: int) -> None:
    os.utime(directory, ns=(mtime, mtime))


def _plain(directory: int) -> None:
    os.chmod(directory, 0o755)  # noqa: S103 - a directory of an image, below one that is 0700
    _set_time(directory, 0)
