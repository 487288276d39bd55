"""asyncrt copy: an image from one place to another."""

from __future__ import annotations

import contextlib

from asyncrt.cli import fetching
from asyncrt.cli.connect import connect
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.model import location
from asyncrt.model.moving_requests import Copy


def _copy(words: Words, places: Places) -> int:
    source, destination = map(location.parse, words.rest)
    form = words.one("format")
    wish = Copy(
        str(source),
        str(destination),
        words.on("all"),
        words.one("platform"),
        form if form != "json" else "",
        _plain(words, "src-tls-verify"),
        _plain(words, "dest-tls-verify"),
        words.one("src-creds"),
        words.one("dest-creds"),
    )
    shown = words._replace(flags={**words.flags, "format": ["json" if form == "json" else "table"]})
    with contextlib.closing(connect(places)) as client:
        return fetching.move(shown, [(words.rest[1], client.call(wish))], lambda ref, told: str(told["digest"]))


def _plain(words: Words, flag: str) -> bool:
    return words.given(flag) and not words.on(flag)


VERB = Verb(
    usage="copy [-q] [--all] [--platform OS/ARCH] [--format oci|v2s2|json] SOURCE DESTINATION",
    run=_copy,
    flags=(
        Flag("all", "a", "", "every platform of an index"),
        Flag("platform", "", "OS/ARCH", "of an index this one; this machine's unless told"),
        Flag("format", "f", "oci|v2s2|json", "write manifests of this form; json: an object a step"),
        Flag("src-tls-verify", "", "", "=false: the source may be a registry without TLS"),
        Flag("dest-tls-verify", "", "", "=false: so may the destination"),
        Flag("src-creds", "", "USER:PASSWORD", "who we are to the source; else config.json tells"),
        Flag("dest-creds", "", "USER:PASSWORD", "who we are to the destination"),
        Flag("quiet", "q", "", "the digest alone"),
    ),
    least=2,
    most=2,
    more=(
        "Places: docker://REF oci:DIR[:TAG] oci-archive:FILE[:TAG] docker-archive:FILE[:REF]\n"
        "        dir:DIR asyncrt:REF"
    ),
)
