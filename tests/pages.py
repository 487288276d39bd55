"""The tables of docs/messages.md, made from the message types:   python -m tests.pages

What people wrote stands above the line MADE in that page and stays; what is below it is made anew, and a test fails
when it is stale.
"""

import inspect
import sys
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import msgspec

from asyncrt.model import protocol
from shimd.wire import messages, values

PAGE = Path(__file__).resolve().parent.parent / "docs" / "messages.md"
MADE = "<!-- made by python -m tests.pages; nothing below is written by hand -->"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _words(kind: Any) -> str:
    """Its docstring, unless it is one that the class machinery made."""
    text = inspect.cleandoc(kind.__doc__ or "")
    return "" if text.startswith(f"{kind.__name__}(") else _cell(text)


def _annotation(kind: Any, field: str) -> str:
    found = kind.__annotations__[field]
    return str(getattr(found, "__forward_arg__", found))


def _table(heads: str, rows: list[list[str]]) -> str:
    names = heads.split(", ")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tuple_fields(kind: Any) -> str:
    return "<br>".join(f"`{field}: {_cell(_annotation(kind, field))}`" for field in kind._fields)


def _struct_fields(kind: Any) -> str:
    cells = []
    for field in msgspec.structs.fields(kind):
        text = f"{field.name}: {_annotation_of_struct(kind, field.name)}"
        if field.default is not msgspec.NODEFAULT:
            text += f" = {field.default!r}"
        cells.append(f"`{_cell(text)}`")
    return "<br>".join(cells)


def _annotation_of_struct(kind: Any, field: str) -> str:
    for base in kind.__mro__:
        if field in getattr(base, "__annotations__", {}):
            return str(base.__annotations__[field])
    raise AssertionError(f"{kind.__name__} has no field {field}")


def _answers() -> dict[str, str]:
    """What each request answers, from the table in the protocol's docstring."""
    text = (protocol.__doc__ or "").partition("What each request answers:")[2].partition("\n\n")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.partition("\n\n")[0].splitlines():
        head, rest = line[:24].strip(), line[24:].strip()
        if head:
            names = [name.strip() for name in head.split(",")]
        for name in names:
            found[name] = f"{found.get(name, '')} {rest}".strip()
    return found


def made() -> str:
    """All that is below the line."""
    wire = [
        [str(number), f"`{kind.__name__}`", _tuple_fields(kind), _words(kind)]
        for number, kind in messages.NUMBERS.items()
    ]
    carried = [[f"`{kind.__name__}`", _tuple_fields(kind), _words(kind)] for kind in _values()]
    answers = _answers()
    requests = [
        [f"`{kind.__name__}`", _struct_fields(kind), _words(kind), _cell(answers.get(kind.__name__, ""))]
        for kind in _requests()
    ]
    return "\n".join(
        [
            f"\n## All messages of shimd's wire (version {messages.VERSION})\n",
            _table("number, message, fields, what it says", wire),
            "\nThe values in them:\n",
            _table("value, fields, what it is", carried),
            f"\n## All requests of the native API (version {protocol.VERSION})\n",
            _table("request, fields, what it asks, what it answers", requests),
            "",
        ]
    )


def _values() -> list[Any]:
    return [kind for _, kind in inspect.getmembers(values, inspect.isclass) if kind.__module__ == values.__name__]


def _requests() -> list[Any]:
    union: UnionType = protocol.AnyRequest
    return list(get_args(union))


def page() -> str:
    """The whole page as it should be."""
    written = PAGE.read_text(encoding="utf-8").partition(MADE)[0].rstrip()
    return f"{written}\n\n{MADE}\n{made()}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.exit(0)
