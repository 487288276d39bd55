"""The requests of the native API that read or change trees, or make an image of one; the answers: protocol.py."""

from __future__ import annotations

import msgspec

from asyncrt.model.request import Request


class Diff(Request, frozen=True):
    """What a container changed against its image."""

    ref: str


class Export(Request, frozen=True):
    """A container's tree as a tar, without its mounts: the frame brings an fd to write to."""

    ref: str


class Commit(Request, frozen=True):
    """An image of a container. `name` may be empty; `changes` are a Dockerfile's instructions (CMD, ENV, ...)."""

    ref: str
    name: str = ""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


class Import(Request, frozen=True):
    """An image of one layer: the frame brings an fd to read a tar from. `source` is what history calls it."""

    name: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    platform: str = ""
    source: str = ""


class PathStat(Request, frozen=True):
    """What a path in a container is; `follow` a symlink at its end. NoSuchObject."""

    ref: str
    path: str
    follow: bool = False


class CopyFrom(Request, frozen=True):
    """Copy a path of a container to the fd of the frame: into that directory, or as a tar.

    `name` is what it is called there, "" for its own name; `contents`: what is in the directory, not itself. `owners`
    keeps the numbers of owners, else all is root's. With `follow` a symlink at the path's end is followed.
    """

    ref: str
    path: str
    name: str = ""
    contents: bool = False
    follow: bool = False
    owners: bool = False


class CopyTo(Request, frozen=True):
    """Copy to a path in a container, by docker's rules for what is there.

    The fd of the frame is a tar, to be unpacked into the directory `path`; or with `name` the directory that has it, or
    with `contents` the directory whose content it is. `called` is what it is called where it goes, "" for its own name;
    `owners` as in CopyFrom.
    """

    ref: str
    path: str
    name: str = ""
    called: str = ""
    contents: bool = False
    owners: bool = False


class InspectImages(Request, frozen=True):
    """Documents of images, as docker's `image inspect` has them, with their history."""

    refs: tuple[str, ...]


class PruneImages(Request, frozen=True):
    """Forget the images without a name that no container stands on; `all`: those with a name, too."""

    all: bool = False


class Stat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a path in a container is. `mode` as stat(2) has it, `link` where a symlink leads, times in ns since 1970."""

    name: str
    mode: int
    size: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0
    link: str = ""


TreeRequest = Diff | Export | Commit | Import | PathStat | CopyFrom | CopyTo | InspectImages | PruneImages
