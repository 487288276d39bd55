"""asyncrt load: images out of an archive, docker's or OCI's."""

from __future__ import annotations

import contextlib
import os

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _load(words: Words, places: Places) -> int:
    fd = _opened(words.one("input")) if words.given("input") else os.dup(0)
    try:
        if os.isatty(fd):
            raise BadRequest("read", "the archive", "it is a terminal", "use -i FILE, or redirect stdin")
        with contextlib.closing(connect(places)) as client:
            for name in client.load(fd):
                print(name)
    finally:
        os.close(fd)
    return 0


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadRequest("open", plain(path), (error.strerror or str(error)).lower()) from error


VERB = Verb(
    usage="load [-i FILE]",
    run=_load,
    flags=(Flag("input", "i", "FILE", "the archive, tar or tar.gz, or the directory of a layout; stdin unless told"),),
    most=0,
)
