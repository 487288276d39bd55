"""asyncrt bundle: config.json of an image, for a rootfs that is there."""

from __future__ import annotations

import contextlib
from pathlib import Path

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _bundle(words: Words, places: Places) -> int:
    image, path = words.rest
    with contextlib.closing(connect(places)) as client:
        client.unpack(image, str(Path(path).absolute()), words.one("platform"), "config")
    return 0


VERB = Verb(
    usage="bundle [--platform OS/ARCH] IMAGE DIRECTORY",
    run=_bundle,
    flags=(Flag("platform", "", "OS/ARCH", "as in linux/arm64; this machine's unless told"),),
    least=2,
    most=2,
    more="DIRECTORY holds rootfs and no more: a mount, or what you made. With the files: asyncrt unpack.",
)
