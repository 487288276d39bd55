"""asyncrt kill: send a signal."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest

_REAL_TIME = {"RTMIN": 34, "RTMAX": 64}  # glibc keeps the first two of the kernel's for itself


def number(text: str) -> int:
    """TERM, SIGTERM, 15, RTMIN+3 as the kernel's number; BadRequest otherwise."""
    import signal

    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and 1 <= int(name) <= 64:
        return int(name)
    if f"SIG{name}" in signal.Signals.__members__:
        return int(signal.Signals[f"SIG{name}"])
    base, sign, offset = name[:5], name[5:6], name[6:]
    if base in _REAL_TIME and sign == ("+" if base == "RTMIN" else "-") and offset.isdecimal():
        value = _REAL_TIME[base] + int(sign + offset)
        if _REAL_TIME["RTMIN"] <= value <= _REAL_TIME["RTMAX"]:
            return value
    raise BadRequest("read", "--signal", f'"{text}" is no signal', "as in TERM, SIGTERM or 15")


def _kill(words: Words, places: Places) -> int:
    signal = number(words.one("signal", "KILL"))
    with contextlib.closing(connect(places)) as client:
        return show(client.kill(words.rest, signal, words.on("all")))


VERB = Verb(
    usage="kill [-s SIGNAL] [--all] CONTAINER...",
    run=_kill,
    flags=(
        Flag("signal", "s", "SIGNAL", "name or number; KILL unless told"),
        Flag("all", "a", "", "to every process of it, not to its first alone"),
    ),
    least=1,
)
