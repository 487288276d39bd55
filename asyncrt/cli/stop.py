"""asyncrt stop: SIGTERM, then SIGKILL after a grace period."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest

LONGEST = 1e9  # seconds, 30 years


def seconds(text: str) -> float:
    """A grace period."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST:
        raise BadRequest("read", "--time", f'"{text}" is no number of seconds', "0 kills at once")
    return value


def _stop(words: Words, places: Places) -> int:
    grace = seconds(words.one("time", "10"))
    with contextlib.closing(connect(places)) as client:
        return show(client.stop(words.rest, grace))


VERB = Verb(
    usage="stop [-t SECONDS] CONTAINER...",
    run=_stop,
    flags=(Flag("time", "t", "SECONDS", "of grace before SIGKILL; 10 unless told"),),
    least=1,
)
