"""asyncrt import: an image of a tar."""

from __future__ import annotations

import contextlib
import os

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest
from asyncrt.model.tree_requests import Import


def _import(words: Words, places: Places) -> int:
    source, *name = words.rest
    wish = Import(
        name[0] if name else "", words.one("message"), tuple(words.all("change")), words.one("platform"), source
    )
    fd = os.dup(0) if source == "-" else _opened(source)
    try:
        if os.isatty(fd):
            raise BadRequest("read", "the archive", "stdin is a terminal", "give a FILE, or redirect stdin")
        with contextlib.closing(connect(places)) as client:
            print(client.import_(wish, fd)["id"])
    finally:
        os.close(fd)
    return 0


def _opened(path: str) -> int:
    if path.startswith(("http://", "https://")):
        raise BadRequest("import", plain(path), "urls are not fetched", f"curl -fL {plain(path)} | asyncrt import -")
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BadRequest("open", plain(path), (error.strerror or str(error)).lower()) from error


VERB = Verb(
    usage="import [-c CHANGE] [-m MESSAGE] [--platform OS/ARCH] FILE|- [NAME]",
    run=_import,
    flags=(
        Flag("change", "c", "CHANGE", "a Dockerfile's instruction, as in 'CMD [\"serve\"]'"),
        Flag("message", "m", "MESSAGE", "for the history"),
        Flag("platform", "", "OS/ARCH", "what it is for; this machine unless told"),
    ),
    least=1,
    most=2,
    more="The tar may be compressed by gzip, bzip2, xz or zstd. Prints the image's id.",
)
