"""The numbers and records of tar headers.

Numbers are octal digits between blanks and NULs (POSIX.1-2017, pax, "ustar Interchange Format"), or with the first
bit set two's complement in base 256 (GNU tar). Nothing else is let through: int() would take signs, underscores and
0o as well, and two readers that disagree on a size see two different archives (CVE-2025-62518).
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from asyncrt.errors import BadImage

_LENGTH = re.compile(rb"[1-9][0-9]{0,9}")
_DECIMAL = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
MAX_TIME = (1 << 63) - 1  # ns in an int64: what utimensat(2) is given through Python


def malformed(cause: str) -> BadImage:
    """What is said of a header that no reader should take."""
    return BadImage("read layer", "", cause, "it was made wrongly, or to mislead")


def number(field: bytes) -> int:
    """A number field of a header. BadImage if it is none."""
    if field[0] & 0x80:
        # Bit 7 of the first byte is the mark, bit 6 the sign.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:  # an 8 or a 9
            pass
    raise malformed(f"{field!r} in a header is no number")


# Modes, owners and times are few and come again: a lookup is a fifth of the parse.
cached_number = lru_cache(8192)(number)


def decimal(text: bytes, what: str) -> int:
    """A number as pax records have it. BadImage if it is none."""
    if not _DECIMAL.fullmatch(text):
        raise malformed(f"{text[:40]!r} in a pax record is no {what}")
    return int(text)


def time_ns(text: bytes) -> int:
    """A time of a pax record in ns, rounded down, kept inside what the kernel takes."""
    found = _TIME.fullmatch(text)
    if not found:
        raise malformed(f"{text[:40]!r} in a pax record is no time")
    sign, seconds, fraction = found.groups()
    value = int(seconds) * 10**9 + int((fraction or b"")[:9].ljust(9, b"0"))
    return bounded_time(-value if sign else value)


def bounded_time(value: int) -> int:
    """A time in ns inside an int64."""
    return max(-MAX_TIME, min(MAX_TIME, value))


def records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header, in their order: sparse 0.0 says a key many times."""
    found = []
    position = 0
    while position < len(data):
        if data[position] == 0 and not data[position:].strip(b"\0"):
            break  # some writers count the padding in
        blank = data.find(b" ", position, position + 11)
        length = data[position:blank] if blank > 0 else b""
        if not _LENGTH.fullmatch(length):
            raise malformed("a pax record without a length")
        end = position + int(length)
        record = data[blank + 1 : end]
        key, equals, value = record.partition(b"=")
        if end > len(data) or not record.endswith(b"\n") or not equals or not key:
            raise malformed("a pax record of another length than it says")
        found.append((key, value[:-1]))
        position = end
    return found


def xattr(key: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """(name, value) of a pax record that is an extended attribute; None if it is none.

    SCHILY.xattr.NAME has the raw value (star, GNU tar, Go), LIBARCHIVE.xattr.NAME has NAME url-encoded and the value in
    base64. Where both are said they say the same.
    """
    if key.startswith(b"SCHILY.xattr."):
        return key[13:], value
    if key.startswith(b"LIBARCHIVE.xattr."):
        try:
            return unquote_to_bytes(key[17:]), binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
        except binascii.Error:
            raise malformed("an extended attribute whose base64 is none") from None
    return None
