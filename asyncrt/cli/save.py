"""asyncrt save: images into an archive that docker and OCI tools read."""

from __future__ import annotations

import contextlib

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outfile import written_to
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _save(words: Words, places: Places) -> int:
    with contextlib.closing(connect(places)) as client:
        written_to(words.one("output"), lambda fd: client.save(words.rest, fd))
    return 0


VERB = Verb(
    usage="save [-o FILE] IMAGE...",
    run=_save,
    flags=(Flag("output", "o", "FILE", "the archive; stdout unless told"),),
    least=1,
)
