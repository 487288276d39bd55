"""Moments as docker takes them: an age (10m, 1h30m), a time (RFC 3339, a date), or seconds since 1970."""

from __future__ import annotations

import datetime
import re

from asyncrt.errors import BadRequest

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?",
)


def moment(text: str, flag: str, now_ns: int) -> int:
    """Nanoseconds since 1970. A time without a zone is ours. BadRequest for what is none of these.

    >>> moment("1h30m", "--since", 10**13) == 10**13 - 5400 * 10**9
    True
    >>> moment("1970-01-01T00:01:00.5Z", "--since", 0)
    60500000000
    """
    if seconds := _SECONDS.fullmatch(text):
        return int(seconds[1]) * 10**9 + int((seconds[2] or "").ljust(9, "0"))
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.removeprefix("-").removeprefix("+"):
        age = sum(round(float(number) * _UNITS[unit]) for number, unit in parts)
        return now_ns + age if text.startswith("-") else now_ns - age
    if found := _TIME.fullmatch(text):
        try:
            return _time(found)
        except ValueError:
            pass
    hint = "as in 10m, 1h30m, 2026-01-31T12:00:00Z, 2026-01-31 or 1769860800"
    raise BadRequest("read", flag, f'"{text}" is no time', hint)


def _time(found: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(found[n] or 0) for n in range(1, 7))
    naive = datetime.datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 # its zone is put on below
    zone = found[8]
    if not zone:
        aware = naive.astimezone()
    elif zone == "Z":
        aware = naive.replace(tzinfo=datetime.UTC)
    else:
        hours, minutes = int(zone[1:3]), int(zone[4:])
        offset = datetime.timedelta(hours=hours, minutes=minutes)
        aware = naive.replace(tzinfo=datetime.timezone(-offset if zone[0] == "-" else offset))
    return int(aware.timestamp()) * 10**9 + int((found[7] or "").ljust(9, "0"))


def stamp(time_ns: int) -> bytes:
    """RFC 3339 in UTC with nine digits, as docker's --timestamps has it.

    >>> stamp(60_500_000_001)
    b'1970-01-01T00:01:00.500000001Z'
    """
    seconds, rest = divmod(time_ns, 10**9)
    shown = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{shown:%Y-%m-%dT%H:%M:%S}.{rest:09}Z".encode()
