"""asyncrt save: images into an archive that docker and OCI tools read."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.outfile import written_to
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest


def _save(words: Words, places: Places) -> int:
    path, form = words.one("output"), words.one("format")
    if form == "oci-dir":
        return _save_directory(words, places, path)
    with contextlib.closing(connect(places)) as client:
        written_to(path, lambda fd: client.save(words.rest, fd, form))
    return 0


def _save_directory(words: Words, places: Places, path: str) -> int:
    """A layout: images that are in it already stay there."""
    if not path:
        raise BadRequest("write", "the layout", "a directory cannot go to stdout", "use -o DIRECTORY")
    made = False
    try:
        if not Path(path).is_dir():
            Path(path).mkdir()
            made = True
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise BadRequest("make", plain(path), (error.strerror or str(error)).lower()) from error
    try:
        with contextlib.closing(connect(places)) as client:
            client.save(words.rest, fd, "oci-dir")
    except BaseException:
        if made:
            shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        os.close(fd)
    return 0


VERB = Verb(
    usage="save [-o FILE] [--format FORM] IMAGE...",
    run=_save,
    flags=(
        Flag("output", "o", "FILE", "the archive; stdout unless told. Of oci-dir the directory"),
        Flag("format", "", "FORM", "docker-archive, oci-archive or oci-dir; docker's and OCI's in one unless told"),
    ),
    least=1,
)
