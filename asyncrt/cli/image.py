"""asyncrt image VERB: the verbs about images, under docker's other names for them."""

from __future__ import annotations

from asyncrt.cli.flags import Words
from asyncrt.cli.places import Places
from asyncrt.cli.usage import of_group
from asyncrt.cli.verb import SUBVERBS, Verb
from asyncrt.errors import BadRequest


def _image(words: Words, places: Places) -> int:
    from asyncrt.cli.flags import nearest
    from asyncrt.cli.main import run_verb

    if not words.rest:
        print(of_group("image"))
        return 0
    name, *rest = words.rest
    if name not in SUBVERBS["image"]:
        guess = nearest(name, SUBVERBS["image"])
        raise BadRequest(
            "read", f'"image {name}"', "no such verb", f"did you mean {guess}?" if guess else "image --help"
        )
    return run_verb(f"image {name}", rest, places)


VERB = Verb(usage="image VERB ...", run=_image, stop=True, own=True, more=of_group("image"))
