"""JSON text to documents and back: the C half of the standard library's ``json``, without its Python half.

``import json`` brings ``re`` and ``enum`` along and costs a command as much as the interpreter's own start. An
interpreter without the C half gets the whole package.

``read`` is as strict as ``json.loads`` with one difference: NaN and Infinity, which are not JSON, are refused.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


WHITE = " \t\n\r"


class BadText(ValueError):
    """Not JSON; says where."""


def read(text: str) -> object:
    """The document. Raises BadText."""
    start = len(text) - len(text.lstrip(WHITE))
    try:
        document, end = _scan(text, start)
    except SystemError:
        # The scanner of Python 3.11 finds the class of its error only where the package was imported: now it is needed.
        import json.decoder  # noqa: F401

        return read(text)
    except StopIteration as error:
        raise BadText(f"a value is missing at {_place(text, error.value)}") from None
    except RecursionError:
        raise BadText("it is nested too deep") from None
    except BadText:
        raise
    except ValueError as error:  # JSONDecodeError; an integer of thousands of digits
        raise BadText(str(error).lower()) from None
    if text[end:].strip(WHITE):
        raise BadText(f"more follows the document at {_place(text, end)}")
    return document


def write(document: object) -> str:
    """One line."""
    return "".join(_encode(document, 0))


def write_lines(document: object, indent: str = "\t") -> str:
    """For people: a line a property, in the order in which they come."""
    return "".join(_lines(document, "\n", indent))


def _lines(document: object, newline: str, indent: str) -> Iterator[str]:
    below = newline + indent
    if isinstance(document, dict) and document:
        comma = "{"
        for key, value in document.items():
            yield f"{comma}{below}{write(key)}: "
            yield from _lines(value, below, indent)
            comma = ","
        yield newline + "}"
    elif isinstance(document, (list, tuple)) and document:
        comma = "["
        for value in document:
            yield comma + below
            yield from _lines(value, below, indent)
            comma = ","
        yield newline + "]"
    else:
        yield write(document)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line} column {at - text.rfind(chr(10), 0, at)}"


def _no_constant(word: str) -> object:
    raise BadText(f"{word} is no JSON")


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


class _Context:
    """What the scanner asks its decoder for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 # the scanner's own


_scan: Callable[[str, int], tuple[object, int]]
_encode: Callable[[object, int], Iterable[str]]
try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan = make_scanner(_Context())  # type: ignore[arg-type] # typeshed wants a scanner to make a scanner
    # markers None: no cycle is looked for, documents have none. Separators as Go writes them: callers compare texts.
    _encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)
except ImportError:
    import json

    _scan = json.scanner.make_scanner(_Context())  # type: ignore[attr-defined]

    def _encode(document: object, level: int) -> Iterable[str]:
        return (json.dumps(document, allow_nan=False, separators=(",", ":")),)
