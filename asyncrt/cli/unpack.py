"""asyncrt unpack: an image as a bundle that OCI runtimes run, or its files alone."""

from __future__ import annotations

import contextlib
from pathlib import Path

from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb


def _unpack(words: Words, places: Places) -> int:
    image, path = words.rest
    what = "rootfs" if words.on("rootfs-only") else "bundle"
    with contextlib.closing(connect(places)) as client:
        client.unpack(image, str(Path(path).absolute()), words.one("platform"), what)
    return 0


VERB = Verb(
    usage="unpack [--platform OS/ARCH] [--rootfs-only] IMAGE DIRECTORY",
    run=_unpack,
    flags=(
        Flag("platform", "", "OS/ARCH", "as in linux/arm64; this machine's unless told"),
        Flag("rootfs-only", "", "", "the files, in DIRECTORY itself, without rootfs/ and config.json"),
    ),
    least=2,
    most=2,
    more="DIRECTORY is new or empty. The bundle runs by: runc run -b DIRECTORY NAME (or crun, or asyncrt-oci).",
)
