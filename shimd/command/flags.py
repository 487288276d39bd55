"""Words of the command line to values, by a table.

As Go's flag packages read them, which is what runc's callers write: `--flag value`, `--flag=value`, one dash or two,
short names, and `--` ends the flags. Flags may stand behind arguments too, but for verbs that take a command.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SWITCH, WORD, LIST, NUMBER = "switch", "word", "list", "number"
Values = dict[str, object]


class Misuse(Exception):
    """The command line says what cannot be read."""


class Flag:
    """`names`: the long one first. `default` is what `Values` holds for a flag that is not given."""

    __slots__ = ("default", "help", "kind", "names")

    def __init__(self, names: str, kind: str, help: str, default: object = None) -> None:
        self.names = names.split()
        self.kind = kind
        self.help = help
        self.default = {SWITCH: False, LIST: []}.get(kind, default)


def split(words: Sequence[str], flags: Sequence[Flag], *, to_first: bool) -> tuple[Values, list[str]]:
    """Values by the flags' long names, and the arguments; with `to_first` the first argument ends the flags.

    Raises Misuse.
    """
    known = {name: flag for flag in flags for name in flag.names}
    values: Values = {
        flag.names[0]: list(flag.default) if isinstance(flag.default, list) else flag.default for flag in flags
    }
    arguments: list[str] = []
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-" or (word[1:].isdigit() and word[1:] not in known):
            arguments.append(word)
            if to_first:
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        flag = known.get(name)
        if flag is None:
            raise Misuse(f"flag provided but not defined: -{name}")
        if flag.kind != SWITCH and not equals:
            if not waiting:
                raise Misuse(f"flag needs an argument: -{name}")
            value = waiting.pop()
        _take(flag, values, value if flag.kind != SWITCH or equals else "true")
    return values, arguments + list(reversed(waiting))


def _take(flag: Flag, values: Values, word: str) -> None:
    name = flag.names[0]
    if flag.kind == SWITCH:
        if word not in ("true", "false"):
            raise Misuse(f"--{name} is true or false, not {word!r}")
        values[name] = word == "true"
    elif flag.kind == NUMBER:
        digits = word.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise Misuse(f"--{name} wants a whole number, not {word!r}")
        values[name] = int(word)
    elif flag.kind == LIST:
        held = values[name]
        assert isinstance(held, list)
        held.append(word)
    else:
        values[name] = word


def text(values: Mapping[str, object], name: str) -> str:
    """A WORD flag's value, "" if it was not given."""
    value = values[name]
    return value if isinstance(value, str) else ""


def texts(values: Mapping[str, object], name: str) -> list[str]:
    """A LIST flag's values."""
    value = values[name]
    return value if isinstance(value, list) else []


def number(values: Mapping[str, object], name: str) -> int | None:
    """A NUMBER flag's value."""
    value = values[name]
    return value if isinstance(value, int) else None
