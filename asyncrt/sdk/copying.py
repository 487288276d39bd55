"""The caller's end of a copy: what a local path means by docker's rules, as an open directory and a name.

    end = source("dir/", follow=False)          # to a container: CopyTo(ref, path, end.name, ...), fd=end.fd
    end = destination("here", found)            # from one: CopyFrom(ref, path, end.name, ...), fd=end.fd

The supervisor works from that directory on and follows nothing, so what a container holds cannot lead it elsewhere.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import NamedTuple, Self

from asyncrt.errors import BadRequest, NoSuchObject
from asyncrt.model.tree_requests import Stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class End(NamedTuple):
    """`fd` is an open directory, `name` in it what is copied, or what the copy is called there ("" for its own name).

    `called` is what a source is called where it goes. `contents`: what is in the directory, not itself.
    """

    fd: int
    name: str = ""
    called: str = ""
    contents: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)


def asserts_directory(path: str) -> bool:
    """Whether a path says of itself that it is a directory."""
    return path.endswith(("/", "/.", "/..")) or path in (".", "..")


def is_contents(path: str) -> bool:
    """Whether a path means what is in a directory: "x/."."""
    return path == "." or path.endswith("/.")


def source(path: str, follow: bool = False) -> End:
    """What is to be copied. NoSuchObject, BadRequest."""
    try:
        status = os.lstat(path)
        asserted = asserts_directory(path)
        real = path
        if stat.S_ISLNK(status.st_mode) and follow:
            real, status = os.path.realpath(path, strict=True), os.stat(path)  # noqa: PTH116 - as above
        if asserted and not stat.S_ISDIR(status.st_mode):
            raise BadRequest("copy", path, "it is no directory")
        if is_contents(path) or not os.path.basename(os.path.abspath(real)):
            return End(os.open(path, _DIRECTORY), contents=True)
        if asserted:
            real = os.path.realpath(path, strict=True)
        above, name = os.path.split(os.path.abspath(real) if real == path else real)
        return End(os.open(above, _DIRECTORY), name, os.path.basename(os.path.abspath(path)))
    except OSError as error:
        raise _translated(path, error) from error


def destination(path: str, found: Stat, contents: bool = False) -> End:
    """Where what was `found` in a container goes. NoSuchObject, BadRequest."""
    directory = stat.S_ISDIR(found.mode)
    try:
        try:
            status = os.stat(path)  # noqa: PTH116 - strings, as the user wrote them
        except FileNotFoundError:
            if asserts_directory(path) and not directory:
                raise NoSuchObject("copy", f"to {path}", "there is no such directory", "make it first") from None
            above, name = os.path.split(os.path.abspath(path))
            return End(os.open(above, _DIRECTORY), name)
        if stat.S_ISDIR(status.st_mode):
            return End(os.open(path, _DIRECTORY), contents=contents)
        if directory:
            raise BadRequest("copy", f"to {path}", "a directory cannot be put in a file's place")
        if asserts_directory(path):
            raise BadRequest("copy", f"to {path}", "it is no directory")
        above, name = os.path.split(os.path.realpath(path))
        return End(os.open(above, _DIRECTORY), name)
    except OSError as error:
        raise _translated(path, error) from error


def _translated(path: str, error: OSError) -> BadRequest | NoSuchObject:
    if isinstance(error, FileNotFoundError):
        return NoSuchObject("copy", path, "there is no such file or directory")
    if isinstance(error, NotADirectoryError):
        return BadRequest("copy", path, "it is no directory, or a part of it is none")
    return BadRequest("copy", path, (error.strerror or str(error)).lower())
