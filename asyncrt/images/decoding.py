"""JSON of strangers to values: bounded in bytes and depth, every failure a BadImage in our words."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from asyncrt.errors import BadImage, shown

MAX_BYTES = 4 << 20  # distribution-spec v1.1.1, "Pushing Manifests": what registries take at least; more is an attack

_T = TypeVar("_T")


def decode(data: bytes, kind: type[_T], noun: str, subject: str) -> _T:
    """`data` as a `kind`. The message has the path of a misfit: "expected `int`, got `str` - at `$.size`"."""
    if len(data) > MAX_BYTES:
        raise BadImage(f"read {noun}", subject, f"it has {len(data)} bytes, more than {MAX_BYTES >> 20} MiB")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:  # also what is no JSON, and what a __post_init__ refused
        raise BadImage(f"read {noun}", subject, shown(str(error))) from None
    except (RecursionError, UnicodeDecodeError) as error:
        deep = isinstance(error, RecursionError)
        raise BadImage(f"read {noun}", subject, "it is nested too deep" if deep else "it is not UTF-8") from None
