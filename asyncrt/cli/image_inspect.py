"""asyncrt image inspect: documents of images."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _inspect(words: Words, places: Places) -> int:
    wants_json(words.one("format", "json"))
    with contextlib.closing(connect(places)) as client:
        show(client.inspect_images(words.rest))
    return 0


VERB = Verb(
    usage="image inspect IMAGE...",
    run=_inspect,
    flags=(Flag("format", "", "json", "what it is anyway"),),
    least=1,
)
