"""asyncrt save: images into an archive that docker and OCI tools read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _save(words: Words, places: Places) -> int:
    path = words.one("output")
    if not path:
        if os.isatty(1):
            raise BadRequest("write", "the archive", "stdout is a terminal", "use -o FILE, or redirect stdout")
        with contextlib.closing(connect(places)) as client:
            client.save(words.rest, 1)
        return 0
    half = f"{path}.part"
    try:
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadRequest("make", plain(half), (error.strerror or str(error)).lower()) from error
    try:
        with contextlib.closing(connect(places)) as client:
            client.save(words.rest, fd)
        Path(half).replace(path)
    except BaseException:
        Path(half).unlink()
        raise
    finally:
        os.close(fd)
    return 0


VERB = Verb(
    usage="save [-o FILE] IMAGE...",
    run=_save,
    flags=(Flag("output", "o", "FILE", "the archive; stdout unless told"),),
    least=1,
)
