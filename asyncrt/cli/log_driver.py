"""--log-driver and --log-opt, in docker's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from asyncrt.errors import BadRequest
from asyncrt.model import quantities
from asyncrt.model.options import LEAST_LOG, LogFormat

_FORMATS: tuple[str, ...] = get_args(LogFormat)


def options(driver: str, words: Iterable[str]) -> dict[str, Any]:
    """The fields of Options that they are. BadRequest names the first that makes no sense.

    >>> options("json-file", ["max-size=1m", "max-file=3"])
    {'log_format': 'json-file', 'log_max_bytes': 1048576, 'log_files': 3}
    """
    found: dict[str, Any] = {}
    if driver:
        if driver not in _FORMATS:
            raise BadRequest("read", "--log-driver", f'"{driver}" is none', f"there are {', '.join(_FORMATS)}")
        found["log_format"] = driver
    for word in words:
        name, _, value = word.partition("=")
        if name == "max-size":
            found["log_max_bytes"] = _size(value)
        elif name == "max-file" and value.isdecimal() and 1 <= int(value) <= 1000:
            found["log_files"] = int(value)
        else:
            raise BadRequest("read", "--log-opt", f'"{word}" makes no sense', "max-size=10m, max-file=3")
    return found


def _size(text: str) -> int:
    try:
        size = quantities.size(text)
    except ValueError:
        size = -1
    if size < LEAST_LOG:
        raise BadRequest(
            "read", "--log-opt", f'max-size "{text}" is no size', f"{LEAST_LOG} or more, as in 512k or 10m"
        )
    return size
