"""What a deed on several containers came to: those it was done to on stdout, errors on stderr."""

from __future__ import annotations

from collections.abc import Iterable

from asyncrt.cli.say import say
from asyncrt.errors import from_dict
from asyncrt.model.protocol import Outcome


def show(outcomes: Iterable[Outcome]) -> int:
    """Each as it comes; 1 if any failed."""
    code = 0
    for outcome in outcomes:
        if outcome.error is not None:
            say(str(from_dict(outcome.error)))
            code = 1
        else:
            print(outcome.ref or outcome.id, flush=True)
    return code
