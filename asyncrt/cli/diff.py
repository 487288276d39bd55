"""asyncrt diff: what a container changed against its image."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb


def _diff(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    with contextlib.closing(connect(places)) as client:
        found = client.diff(words.rest[0])
    if as_json:
        show([{"kind": kind, "path": path} for kind, path in found])
    else:
        for kind, path in found:
            print(kind, plain(path))
    return 0


VERB = Verb(
    usage="diff [--format json] CONTAINER",
    run=_diff,
    flags=(Flag("format", "", "json|table", "an array of objects, or lines"),),
    least=1,
    most=1,
    more="""
A: added, C: changed, D: deleted.
Nothing is told of mounts, and of /etc/hosts, /etc/hostname, /etc/resolv.conf.
""",
)
