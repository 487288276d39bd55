"""asyncrt version: of the client, and of the supervisor if one runs; it starts none."""

from __future__ import annotations

import contextlib
import os
import platform
from typing import Any

from asyncrt import __version__
from asyncrt.cli.connect import knock
from asyncrt.cli.document import show, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.info import outline
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError
from asyncrt.model.protocol import VERSION


def _version(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    client = {"version": __version__, "protocol": VERSION, "python": platform.python_version()}
    server, absent = _server(places)
    if as_json:
        show({"client": client, "server": server})
    else:
        document: dict[str, Any] = {"client": client, "server": server if server is not None else absent}
        for line in outline(document):
            print(line)
    return 0


def _server(places: Places) -> tuple[dict[str, Any] | None, str]:
    if os.geteuid() != 0:
        return None, "not asked (needs root)"
    try:
        client = knock(places, timeout=5.0)
        if client is None:
            return None, "none runs"
        with contextlib.closing(client):
            return client.version(), ""
    except AsyncrtError as error:
        return None, str(error)


VERB = Verb(
    usage="version [--format json]",
    run=_version,
    flags=(Flag("format", "", "json|table", "an object, or lines"),),
    most=0,
)
