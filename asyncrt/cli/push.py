"""asyncrt push: send images to their registries."""

from __future__ import annotations

import contextlib

from asyncrt.cli import fetching
from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.model.image_requests import Push


def _push(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        # One after the other: what the first brings there, the next need not.
        asked = ((ref, client.call(Push(ref))) for ref in words.rest)
        return fetching.move(words, asked, lambda ref, told: ref)


VERB = Verb(
    usage="push [-q] [--format json] IMAGE...",
    run=_push,
    flags=(
        Flag("quiet", "q", "", "no steps"),
        Flag("format", "", "json|table", "an object a step, or words"),
    ),
    least=1,
)
