"""asyncrt rm: remove containers."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _rm(words: Words, places: Places) -> int:
    every = words.on("all")
    if every == bool(words.rest):
        raise BadRequest("rm", "", "give either names or --all", f"usage: asyncrt {VERB.usage}")
    with contextlib.closing(connect(places)) as client:
        return show(client.remove(words.rest, words.on("force"), every))


VERB = Verb(
    usage="rm [-f] [-v] CONTAINER... | --all",
    run=_rm,
    flags=(
        Flag("force", "f", "", "kill what runs"),
        Flag("volumes", "v", "", "docker's; the volumes that its image asked for go with it anyway"),
        Flag("all", "", "", "every container"),
    ),
)
