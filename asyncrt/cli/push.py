"""asyncrt push: send images to the registries that their names say."""

from __future__ import annotations

import contextlib

from asyncrt.cli import fetching
from asyncrt.cli.connect import connect
from asyncrt.cli.document import wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError


def _push(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    code = 0
    with contextlib.closing(connect(places)) as client:
        for ref in words.rest:
            try:
                fetching.show(client.push(ref), words.on("quiet"), as_json, ref)
                if not as_json:
                    print(ref, flush=True)
            except AsyncrtError as error:
                say(str(error))
                code = 1
    return code


VERB = Verb(
    usage="push [-q] [--format json] IMAGE...",
    run=_push,
    flags=(
        Flag("quiet", "q", "", "no steps"),
        Flag("format", "", "json|table", "an object a step, or words"),
    ),
    least=1,
)
