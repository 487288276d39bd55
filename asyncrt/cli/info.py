"""asyncrt info: the supervisor, its places and counts."""

from __future__ import annotations

import contextlib
from typing import Any

from asyncrt.cli.connect import connect
from asyncrt.cli.document import show, wants_json
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.say import plain
from asyncrt.cli.verb import Verb


def _info(words: Words, places: Places) -> int:
    as_json = wants_json(words.one("format", "table"))
    with contextlib.closing(connect(places)) as client:
        document = client.info()
    if as_json:
        show(document)
    else:
        for line in outline(document):
            print(line)
    return 0


def outline(document: dict[str, Any], indent: int = 0) -> list[str]:
    """A dict as indented lines, keys in words."""
    lines = []
    for key, value in document.items():
        head = " " * indent + plain(str(key)).replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{head}:", *outline(value, indent + 2)]
        else:
            shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{head}: {plain(shown)}")
    return lines


VERB = Verb(
    usage="info [--format json]",
    run=_info,
    flags=(Flag("format", "", "json|table", "an object, or lines"),),
    most=0,
)
