"""asyncrt inspect: records as JSON."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.document import inspected, show, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _inspect(words: Words, places: Places) -> int:
    wants_json(words.one("format", "json"))
    with contextlib.closing(connect(places)) as client:
        show([inspected(container) for container in client.inspect(words.rest)])
    return 0


VERB = Verb(
    usage="inspect CONTAINER...",
    run=_inspect,
    flags=(Flag("format", "", "json", "what it is anyway"),),
    least=1,
)
