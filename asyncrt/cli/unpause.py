"""asyncrt unpause: let paused containers go on."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _unpause(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        return show(client.unpause(words.rest))


VERB = Verb(usage="unpause CONTAINER...", run=_unpause, least=1)
