"""asyncrt commit: an image of a container."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.model.tree_requests import Commit


def _commit(words: Words, places: Places) -> int:
    name = words.rest[1] if len(words.rest) > 1 else ""
    pause = not words.given("pause") or words.on("pause")
    wish = Commit(words.rest[0], name, words.one("author"), words.one("message"), tuple(words.all("change")), pause)
    with contextlib.closing(connect(places)) as client:
        print(client.commit(wish)["id"])
    return 0


VERB = Verb(
    usage="commit [-a AUTHOR] [-m MESSAGE] [-c CHANGE] [-p] CONTAINER [NAME]",
    run=_commit,
    flags=(
        Flag("author", "a", "AUTHOR", 'as in "A. Name <a@example.org>"'),
        Flag("message", "m", "MESSAGE", "what was done, for the history"),
        Flag("change", "c", "CHANGE", "a Dockerfile's instruction, as in 'CMD [\"serve\"]'"),
        Flag("pause", "p", "", "stand the container still meanwhile (true)"),
    ),
    least=1,
    most=2,
    more="Prints the image's id. Mounts, and /etc/hosts, /etc/hostname, /etc/resolv.conf are no part of it.",
)
