"""A file that is written whole or not at all: for save and export."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from asyncrt.cli.say import plain
from asyncrt.errors import BadRequest


def written_to(path: str, write: Callable[[int], object]) -> None:
    """Have `write` write to the file `path`, which appears once that is done; to stdout if there is no path.

    What cannot be renamed over (a pipe, a device) is written to as it is. BadRequest.
    """
    if not path:
        if os.isatty(1):
            raise BadRequest("write", "the archive", "stdout is a terminal", "use -o FILE, or redirect stdout")
        write(1)
        return
    there = Path(path)
    if there.exists() and not there.is_file():
        fd = _opened(path, os.O_WRONLY)
        try:
            write(fd)
        finally:
            os.close(fd)
        return
    half = f"{path}.part"
    fd = _opened(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write(fd)
        Path(half).replace(path)
    except BaseException:
        Path(half).unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadRequest("make", plain(path), (error.strerror or str(error)).lower()) from error
