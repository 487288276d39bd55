"""asyncrt image prune: forget images that nobody needs."""

from __future__ import annotations

import contextlib
import os
import sys

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _prune(words: Words, places: Places) -> int:
    every = words.on("all")
    if not words.on("force") and not _agreed(every):
        return 0
    with contextlib.closing(connect(places)) as client:
        gone = client.prune_images(every)
    for name in gone["names"]:
        print(f"untagged: {name}")
    for digest in gone["blobs"]:
        print(f"deleted: {digest}")
    return 0


def _agreed(every: bool) -> bool:
    """Ask on a terminal; a script has to say it by -f."""
    if not os.isatty(0):
        raise BadRequest("prune", "images", "nobody is there to be asked", "use -f")
    what = "all images without a container" if every else "all images without a name and a container"
    sys.stderr.write(f"This removes {what}. Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


VERB = Verb(
    usage="image prune [-a] [-f]",
    run=_prune,
    flags=(
        Flag("all", "a", "", "also those with a name, if no container stands on them"),
        Flag("force", "f", "", "without asking"),
    ),
    most=0,
)
