"""asyncrt start: start created containers."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import from_dict
from asyncrt.model.protocol import Progress


def _start(words: Words, places: Places) -> int:
    code = 0
    with contextlib.closing(connect(places)) as client:
        for progress in client.start(words.rest):
            if progress.error is not None:
                say(str(from_dict(progress.error)))
                code = 1
            elif progress.step == "started":
                print(_as_asked(words.rest, progress), flush=True)
    return code


def _as_asked(refs: list[str], progress: Progress) -> str:
    """The word that the user wrote for it, as docker prints it."""
    return next((ref for ref in refs if ref == progress.name or progress.id.startswith(ref)), progress.id)


VERB = Verb(usage="start CONTAINER...", run=_start, least=1)
