"""asyncrt export: a container's tree as a tar."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outfile import written_to
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _export(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        written_to(words.one("output"), lambda fd: client.export(words.rest[0], fd))
    return 0


VERB = Verb(
    usage="export [-o FILE] CONTAINER",
    run=_export,
    flags=(Flag("output", "o", "FILE", "the tar; stdout unless told"),),
    least=1,
    most=1,
    more="The image with what the container changed, without mounts: what commit would make, as one layer.",
)
