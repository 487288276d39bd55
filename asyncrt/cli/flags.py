"""Docker's flag syntax, read from a table.

    -d  -it  -eNAME=V  -e NAME=V  --env=NAME=V  --env NAME=V  --rm  --rm=false  --

argparse is not used: it takes prefixes of flags, ends with 2 where docker ends with 125, cannot stop at the
image without REMAINDER's surprises, and costs 10 ms of every command.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asyncrt.errors import BadRequest

UNKNOWN_FLAG = 125  # docker's exit code for it, in every verb
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


class Flag(NamedTuple):
    """`value` is what help calls its argument; without, it is a switch. A hidden one has no `about`."""

    long: str
    short: str = ""
    value: str = ""
    about: str = ""

    @property
    def shown(self) -> str:
        """As a user writes it."""
        return f"--{self.long}" if self.long else f"-{self.short}"


class Words(NamedTuple):
    """What was written: flags by long name, each with all its values in order, and the rest."""

    flags: dict[str, list[str]]
    rest: list[str]

    def on(self, name: str) -> bool:
        return self.flags.get(name, ["false"])[-1] == "true"

    def all(self, name: str) -> list[str]:
        return self.flags.get(name, [])

    def one(self, name: str, default: str = "") -> str:
        """The last one wins."""
        return self.flags.get(name, [default])[-1]

    def given(self, name: str) -> bool:
        return name in self.flags


def read(deed: str, argv: Sequence[str], flags: Sequence[Flag], stop: bool = False) -> Words:
    """Sort words into flags and the rest; `stop`: the first word that is no flag ends the flags (run IMAGE
    ...).

    Raises BadRequest, which names `deed` (the verb), the flag and the nearest match.
    """
    by_long = {flag.long: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    words = Words({}, [])
    queue = list(reversed(argv))
    while queue:
        word = queue.pop()
        if word == "--":
            words.rest.extend(reversed(queue))
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in by_long:
                raise unknown(deed, f"--{name}", flags)
            _put(deed, words, by_long[name], value if equals else None, queue)
        elif word.startswith("-") and word != "-":
            _shorts(deed, words, word, by_short, flags, queue)
        else:
            words.rest.append(word)
            if stop:
                words.rest.extend(reversed(queue))
                break
    return words


def _shorts(
    deed: str, words: Words, word: str, by_short: dict[str, Flag], flags: Sequence[Flag], queue: list[str]
) -> None:
    """-it is two switches; -eA=B and -e=A=B a flag and its value."""
    letters = word[1:]
    while letters:
        flag, letters = by_short.get(letters[0]), letters[1:]
        if flag is None:
            raise unknown(deed, f"-{word[-len(letters) - 1]}" if letters else f"-{word[-1]}", flags, word)
        if flag.value or letters.startswith("="):
            _put(deed, words, flag, letters.removeprefix("=") if letters else None, queue)
            return
        _put(deed, words, flag, None, queue)


def _put(deed: str, words: Words, flag: Flag, value: str | None, queue: list[str]) -> None:
    if not flag.value:
        lowered = "true" if value is None else value.lower()
        if lowered not in _TRUE + _FALSE:
            raise BadRequest(deed, flag.shown, f'"{value}" is neither true nor false', "", UNKNOWN_FLAG)
        value = "true" if lowered in _TRUE else "false"
    elif value is None:
        if not queue:
            raise BadRequest(deed, flag.shown, f"{flag.value} is missing behind it", "", UNKNOWN_FLAG)
        value = queue.pop()
    words.flags.setdefault(flag.long, []).append(value)


def unknown(deed: str, shown: str, flags: Iterable[Flag], word: str = "") -> BadRequest:
    """A flag that is not there, with what may have been meant; `word` is the cluster that it stood in."""
    long = shown if shown.startswith("--") else f"-{word}" if len(word) > 2 else shown
    guess = nearest(long, [f"--{flag.long}" for flag in flags if flag.about])
    hint = f"did you mean {guess}?" if guess else "--help lists them"
    return BadRequest(deed, shown, "unknown flag", hint, UNKNOWN_FLAG)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known words most like it ("rm or run"), or nothing."""
    import difflib  # 3 ms that only a typo pays

    words = list(known)
    begun = [other for other in words if word.strip("-") and other.startswith(word)]
    return " or ".join(begun[:2] or difflib.get_close_matches(word, words, 2, 0.6))
