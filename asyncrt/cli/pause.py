"""asyncrt pause: every process stands still until unpause."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _pause(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        return show(client.pause(words.rest))


VERB = Verb(usage="pause CONTAINER...", run=_pause, least=1)
