"""asyncrt wait: block until containers have ended, and print their exit codes, one a line."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import from_dict


def _wait(words: Words, places: Places) -> int:
    code = 0
    with contextlib.closing(connect(places)) as client:
        for progress in client.wait(words.rest):
            if progress.exit is not None:
                print(progress.exit.code)
            else:
                say(str(from_dict(progress.error)) if progress.error else f"wait for {progress.name}: it never ran")
                code = 1
    return code


VERB = Verb(usage="wait CONTAINER...", run=_wait, least=1)
