"""asyncrt cp: files between a container and this machine."""

from __future__ import annotations

import contextlib
import os

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _cp(words: Words, places: Places) -> int:
    source, target = words.rest
    (origin, path), (goal, place) = split(source), split(target)
    follow, owners = words.on("follow-link"), words.on("archive")
    if bool(origin) == bool(goal):
        cause = "both are containers'" if origin else "none of the two is a container's"
        raise BadRequest("cp", "", cause, "write one of them as CONTAINER:PATH")
    if path == "" or place == "":
        raise BadRequest("cp", f'"{source if path == "" else target}"', "the path is empty")
    fd = (0 if origin == "" else 1) if "-" in (source, target) else -1
    for word in words.rest:
        if not word.isascii() and any("\udc80" <= letter <= "\udcff" for letter in word):
            raise BadRequest("cp", f'"{plain(word)}"', "its bytes are no UTF-8", "copy what is above it, or a tar by -")
    if fd >= 0 and os.isatty(fd):
        name = "stdout" if fd else "stdin"
        raise BadRequest("cp", "-", f"{name} is a terminal", "redirect it: what goes through is a tar")
    with contextlib.closing(connect(places)) as client:
        if origin:
            client.copy_from(origin, path, place if fd < 0 else fd, follow, owners)
        else:
            client.copy_to(goal, path if fd < 0 else fd, place, follow, owners)
    return 0


def split(word: str) -> tuple[str, str]:
    """(container, path); "" as the container for a path of this machine, as docker tells them apart.

    >>> split("web:/etc"), split("./a:b"), split("/a:b"), split("-")
    (('web', '/etc'), ('', './a:b'), ('', '/a:b'), ('', '-'))
    """
    container, colon, path = word.partition(":")
    if not colon or word.startswith(("/", ".")) or "/" in container:
        return "", word
    return container, path


VERB = Verb(
    usage="cp [-a] [-L] CONTAINER:PATH PATH|-  or  cp [-a] [-L] PATH|- CONTAINER:PATH",
    run=_cp,
    flags=(
        Flag("archive", "a", "", "keep the numbers of owners; else all becomes root's"),
        Flag("follow-link", "L", "", "follow a symlink at the end of the source's path"),
        Flag("quiet", "q", "", "say nothing, as it does anyway"),
    ),
    least=2,
    most=2,
    more="""
A directory that is there takes the source into it; "DIR/." means what is in DIR.
With - a tar goes through stdin (unpacked into the directory PATH) or stdout.
""",
)
