"""asyncrt tag: one more name for an image."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _tag(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        client.tag(*words.rest)
    return 0


VERB = Verb(usage="tag IMAGE NAME", run=_tag, least=2, most=2)
