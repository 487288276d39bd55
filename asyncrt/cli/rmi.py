"""asyncrt rmi: forget names of images, and what nothing needs any more."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _rmi(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        return show(client.remove_images(words.rest, words.on("force")))


VERB = Verb(
    usage="rmi [-f] IMAGE...",
    run=_rmi,
    flags=(Flag("force", "f", "", "all names of an id, and names of what containers stand on"),),
    least=1,
)
