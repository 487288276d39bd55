"""asyncrt update: other limits, at once where a container runs, and for its next start."""

from __future__ import annotations

import contextlib

from asyncrt.cli import limits
from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.options import cpuset, pids
from asyncrt.cli.outcomes import show
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest
from asyncrt.model import quantities
from asyncrt.model.protocol import Update

USUAL = ("memory", "cpus", "cpuset-cpus", "pids-limit")


def _update(words: Words, places: Places) -> int:
    if not any(words.given(flag.long) for flag in VERB.flags):
        raise BadRequest("read", "the command line", "no limit was given", "--" + ", --".join(USUAL) + " ...")
    wish = Update(
        tuple(words.rest),
        memory=quantities.memory(words.one("memory")) if words.given("memory") else None,
        cpus=quantities.cpus(words.one("cpus")) if words.given("cpus") else None,
        cpuset_cpus=cpuset(words) if words.given("cpuset-cpus") else None,
        pids_limit=pids(words) if words.given("pids-limit") else None,
        limits=limits.limits(words),
    )
    with contextlib.closing(connect(places)) as client:
        return show(client.update(wish))


VERB = Verb(
    usage="update [-m SIZE] [--cpus N] [--pids-limit N] [LIMITS] CONTAINER...",
    run=_update,
    flags=(
        Flag("memory", "m", "SIZE", "as in 512m or 2g; 0: no limit"),
        Flag("cpus", "", "N", "in cores, as in 1.5; 0: no limit"),
        Flag("cpuset-cpus", "", "LIST", "which cores, as in 0-2,4"),
        Flag("pids-limit", "", "N", "how many processes; -1: no limit"),
        *limits.FLAGS,
    ),
    least=1,
)
