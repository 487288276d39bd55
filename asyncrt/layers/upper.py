"""What an overlay's upper directory says against the layers below it: changes for a layer, lines for `diff`.

    changed(upper, below, left_out)         # an fd; a Level of the layers below (snapshots/stack.py)
    lines(upper, below, left_out)           # [Difference("C", b"/etc"), Difference("A", b"/etc/motd")]
    whole(upper, below, left_out)           # the merged tree, as a Found each

An upper directory holds more than was changed: directories on the way to a change, files that were opened to be
written and were not. These are no change; a directory that is none itself comes before the first change in it, as
docker has it, with kind "C". Nothing is said of what is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from asyncrt.errors import StorageFailed
from asyncrt.layers.changes import ELSEWHERE, OPAQUES, Change, Gone, same
from asyncrt.layers.failures import shown
from asyncrt.layers.walk import Found, enter, found_at, root_of
from asyncrt.snapshots.stack import Level

Kind = Literal["A", "C", "D"]


class LeftOut(NamedTuple):
    """What is the container's and not its image's, as paths without a leading slash.

    `own` are names that no layer takes from the upper directory, `mounts` those that its mounts were put on: where
    these are empty and not of an image they were made for that alone.
    """

    own: frozenset[bytes] = frozenset()
    mounts: frozenset[bytes] = frozenset()


class Difference(NamedTuple):
    """A line of `diff`: A added, C changed, D deleted."""

    kind: Kind
    path: bytes


class Changed(NamedTuple):
    kind: Kind
    change: Change


class _Step(NamedTuple):
    """A directory that is being walked, and what the layers below have there."""

    fd: int
    names: list[bytes]
    below: Level | None


def lines(upper: int, below: Level, left_out: LeftOut) -> list[Difference]:
    """The differences, by path. OSError, StorageFailed."""
    found = []
    for kind, change in changed(upper, below, left_out):
        if isinstance(change, Gone) and change.opaque:
            found += [Difference("D", b"/" + path) for path in _hidden(upper, below, change.path)]
        else:
            found.append(Difference(kind, b"/" + change.path))
    return sorted(found, key=lambda one: one.path)


def _hidden(upper: int, below: Level, path: bytes) -> list[bytes]:
    """What the layers below have in an opaque directory and it has not itself."""
    level, directory = below.above(path), os.dup(upper)
    try:
        for part in path.split(b"/"):
            inner = level.enter(part)
            level.close()
            if inner is None:
                return []
            level = inner
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = deeper
        own = {os.fsencode(name) for name in os.listdir(directory)}
        return [path + b"/" + name for name in level.names() if name not in own]
    finally:
        level.close()
        os.close(directory)


def changed(upper: int, below: Level, left_out: LeftOut) -> Iterator[Changed]:
    """The changes in the order of a layer: a directory before what is in it, its opaque mark right behind it.

    A Found is good until the next is asked for. StorageFailed: it is no layer by itself.
    """
    stack = [_step(upper, b".", b"", below.above(b"/"))]
    waiting: list[tuple[bytes, int, bytes]] = []  # unchanged directories above: path, parent, name
    try:
        root, old = root_of(upper), root_of(below.fds[0]) if below.fds else None
        if old is not None and _owned(root) != _owned(old):  # its time changes with every name in it
            yield Changed("C", root)
        while stack:
            step = stack[-1]
            if not step.names:
                _leave(stack.pop())
                while waiting and len(waiting) > len(stack) - 1:
                    waiting.pop()
                continue
            path = step.names.pop()
            found = found_at(step.fd, path)
            if found is None or path in left_out.own:
                continue
            name = found.name
            was = _was(step.below, path)
            if found.is_whiteout:
                if was is not None:
                    yield from _above(waiting)
                    yield Changed("D", Gone(path))
                continue
            _refuse_elsewhere(found)
            if was is None and path in left_out.mounts and _is_empty(found):
                continue
            if not found.is_directory:
                # What has another name up here was linked: without it in the layer, that one would be a copy.
                if was is None or found.status.st_nlink > 1 or not same(was, found):
                    kind: Kind = "A" if was is None else "C"
                    yield from _above(waiting)
                    yield Changed(kind, found)
                continue
            opaque = bool(OPAQUES & found.xattrs.keys())
            if was is None or opaque or not same(was, found):
                yield from _above(waiting)
                yield Changed("A" if was is None else "C", found)
                if opaque and was is not None and was.is_directory:
                    yield Changed("C", Gone(path, opaque=True))
                waiting.append((b"", -1, b""))
            else:
                waiting.append((path, step.fd, name))
            hides = opaque or was is None or not was.is_directory or step.below is None
            inner = None if hides or step.below is None else step.below.enter(name)
            stack.append(_step(step.fd, name, path, inner))
    finally:
        for step in stack:
            _leave(step)


def _owned(found: Found) -> tuple[int, int, int]:
    return found.status.st_mode, found.status.st_uid, found.status.st_gid


def _above(waiting: list[tuple[bytes, int, bytes]]) -> Iterator[Changed]:
    """The directories on the way that were not told yet."""
    for place, (path, parent, name) in enumerate(waiting):
        if path:
            found = found_at(parent, path, name)
            waiting[place] = (b"", -1, b"")
            if found is not None:
                yield Changed("C", found)


def _step(parent: int, name: bytes, path: bytes, below: Level | None) -> _Step:
    directory = enter(parent, name, path)
    names = [path + b"/" + one if path else one for one in directory.names]
    return _Step(directory.fd, names, below)


def _leave(step: _Step) -> None:
    os.close(step.fd)
    if step.below is not None:
        step.below.close()


def _was(below: Level | None, path: bytes) -> Found | None:
    name = path.rpartition(b"/")[2]
    there = below.look(name) if below is not None else None
    return found_at(there[0], path, name) if there is not None else None


def _is_empty(found: Found) -> bool:
    if not found.is_directory:
        return not found.status.st_size
    directory = enter(found.parent, found.name, found.path)
    os.close(directory.fd)
    return not directory.names


def _refuse_elsewhere(found: Found) -> None:
    if ELSEWHERE & found.xattrs.keys():
        cause = "it was renamed or changed by overlayfs's redirect_dir or metacopy, and is no layer by itself"
        raise StorageFailed("write layer", shown(found.path), cause, "mount with redirect_dir=off,metacopy=off")


def whole(
    upper: int | None, below: Level, left_out: LeftOut, hidden: frozenset[bytes] = frozenset()
) -> Iterator[Found]:
    """The tree of both, merged; `hidden` are directories that are shown empty. As changed().

    Of names that are left out it has what the layers below have.
    """
    top = Level([os.dup(upper)] if upper is not None else [])
    merged = Level([*top.fds, *(os.dup(fd) for fd in below.fds)])
    stack = [(merged, sorted(_names(merged, below, b"", left_out), reverse=True), below.above(b"/"))]
    if merged.fds:
        root = found_at(merged.fds[0], b".", b".")
        if root is not None:
            yield root._replace(path=b"")
    try:
        while stack:
            level, names, lower = stack[-1]
            if not names:
                level.close()
                lower.close()
                stack.pop()
                continue
            path = names.pop()
            name = path.rpartition(b"/")[2]
            there = (lower if path in left_out.own else level).look(name)
            found = found_at(there[0], path, name) if there is not None else None
            if found is None:
                continue
            if path in left_out.mounts and lower.look(name) is None and _is_empty(found):
                continue
            _refuse_elsewhere(found)
            yield found
            if found.is_directory and path not in hidden:
                inner = level.enter(name)
                if inner is not None:
                    beneath = lower.enter(name) or Level([])
                    inside = sorted(_names(inner, beneath, path, left_out), reverse=True)
                    stack.append((inner, inside, beneath))
    finally:
        for level, _, lower in stack:
            level.close()
            lower.close()


def _names(level: Level, lower: Level, path: bytes, left_out: LeftOut) -> set[bytes]:
    before = path + b"/" if path else b""
    names = {before + name for name in level.names()}
    return names | {own for own in left_out.own if own.rpartition(b"/")[0] == path and _has(lower, own)}


def _has(lower: Level, path: bytes) -> bool:
    return lower.look(path.rpartition(b"/")[2]) is not None
