"""asyncrt create: as run, short of starting."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.fetching import fetch_missing
from asyncrt.cli.flags import Words
from asyncrt.cli.options import FLAGS, count, options
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import from_dict


def _create(words: Words, places: Places) -> int:
    wish, number = options(words), count(words)
    fetch_missing(places, wish.image, words.on("quiet"))
    code = 0
    with contextlib.closing(connect(places)) as client:
        for progress in client.create(wish, number):
            if progress.step == "created":
                print(progress.id, flush=True)
            elif progress.error is not None:
                error = from_dict(progress.error)
                say(str(error))
                code = code or error.code
    return code


VERB = Verb(
    usage="create [FLAGS] IMAGE [COMMAND [ARG...]]",
    run=_create,
    flags=FLAGS,
    least=1,
    stop=True,
    failure=125,
    own=True,
)
