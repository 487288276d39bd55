"""Numbers with a range, and the empty mapping: the small change of the typed documents.

A range is an annotation for the decoder; a value built in Python is not checked until it is encoded
and loaded again, so policy code may build a Config from plain ints.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, NamedTuple, TypeAlias


class Range(NamedTuple):
    """The integers from ``low`` to ``high``, both included; ``reason`` becomes the hint of an error."""

    low: int
    high: int
    reason: str = ""


Uint16: TypeAlias = Annotated[int, Range(0, 2**16 - 1)]
Int32: TypeAlias = Annotated[int, Range(-(2**31), 2**31 - 1)]
Uint32: TypeAlias = Annotated[int, Range(0, 2**32 - 1)]
Int64: TypeAlias = Annotated[int, Range(-(2**63), 2**63 - 1)]
Uint64: TypeAlias = Annotated[int, Range(0, 2**64 - 1)]

# (uid_t)-1 asks setresuid(2) and chown(2) to change nothing: a container "run as 4294967295" stays root.
Id: TypeAlias = Annotated[int, Range(0, 2**32 - 2, "4294967295 means 'leave unchanged' to the kernel")]

StringMap: TypeAlias = Mapping[str, str]

# Shared by every value that has no entries; a proxy, so that nobody can add one for all.
NO_STRINGS: StringMap = MappingProxyType({})
