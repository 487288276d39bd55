"""asyncrt logout: forget the credentials of a registry."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _logout(words: Words, places: Places) -> int:
    host = words.rest[0] if words.rest else "docker.io"
    with contextlib.closing(connect(places)) as client:
        gone = client.logout(host)
    print(f"Removed credentials of {host}" if gone else f"Not logged in to {host}")
    return 0


VERB = Verb(usage="logout [REGISTRY]", run=_logout, most=1)
