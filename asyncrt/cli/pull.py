"""asyncrt pull: fetch images and unpack them."""

from __future__ import annotations

import contextlib

from asyncrt.cli import fetching
from asyncrt.cli.connect import connect
from asyncrt.cli.document import wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import say
from asyncrt.cli.verb import Verb
from asyncrt.errors import AsyncrtError
from asyncrt.model.image import BlobProgress
from asyncrt.model.protocol import Pull
from asyncrt.sdk.answer import each


def _pull(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    code = 0
    with contextlib.closing(connect(places)) as client:
        # All are asked for at once: they share what they have in common.
        asked = [(ref, client.call(Pull(ref, words.one("platform")))) for ref in words.rest]
        for ref, answer in asked:
            try:
                fetching.show(each(answer, BlobProgress), words.on("quiet"), as_json, ref)
                if not as_json:
                    print(answer.result()["digest"] if words.on("quiet") else answer.result()["name"], flush=True)
            except AsyncrtError as error:
                say(str(error))
                code = 1
    return code


VERB = Verb(
    usage="pull [-q] [--platform OS/ARCH] [--format json] IMAGE...",
    run=_pull,
    flags=(
        Flag("quiet", "q", "", "the digests alone"),
        Flag("platform", "", "OS/ARCH", "as in linux/arm64; this machine's unless told"),
        Flag("format", "", "json|table", "an object a step, or words"),
    ),
    least=1,
)
