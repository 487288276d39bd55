"""WWW-Authenticate, read: what a 401 asks for.

    challenges(values) -> [Challenge("bearer", {"realm": "https://...", "service": ...}), Challenge("basic", {...})]

Several challenges may stand in one header, separated by the same commas as their parameters: a word without "="
after it begins the next. Sources: RFC 9110 section 11; distribution's "Token Authentication Specification".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_LONGEST = 8192
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)(?!\s*=)")
_PARAMETER = re.compile(rf"[\s,]*({_TOKEN})\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*)(?!\"))")
_ESCAPE = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """A scheme in lower case, and its parameters by their names in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Those of all headers, in their order. What cannot be read ends its header."""
    found: list[Challenge] = []
    for value in values:
        text, place = value[:_LONGEST], 0
        while place < len(text):
            if match := _SCHEME.match(text, place):
                found.append(Challenge(match[1].lower(), {}))
            elif found and (match := _PARAMETER.match(text, place)):
                content = match[3] if match[2] is None else _ESCAPE.sub(r"\1", match[2])
                found[-1].parameters.setdefault(match[1].lower(), content)
            else:
                break
            place = match.end()
    return found
