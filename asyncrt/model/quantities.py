"""Sizes and counts as people write them on a command line, in docker's notation."""

from __future__ import annotations

from asyncrt.errors import BadRequest

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SMALLEST_MEMORY = 6 << 20  # docker's floor: below it no program starts


def size(text: str) -> int:
    """Bytes of "512m", "1.5g", "1073741824", "64MiB"; ValueError for what is none."""
    lowered = text.strip().lower()
    number = lowered.rstrip("bkmgti")
    unit = lowered[len(number) :].removesuffix("ib").removesuffix("b") if lowered != number else ""
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, OverflowError):
        raise ValueError(text) from None


def memory(text: str, subject: str = "--memory") -> int:
    """Bytes of "512m", "1.5g", "1073741824", "64MiB"; 0 means no limit. BadRequest otherwise."""
    try:
        amount = size(text)
    except ValueError:
        raise BadRequest("read", subject, f'"{text}" is no size', "write it as 512m or 1.5g") from None
    if amount < 0 or 0 < amount < SMALLEST_MEMORY:
        raise BadRequest("read", subject, f'"{text}" is too small', "at least 6m, or 0 for no limit")
    return amount


def cpus(text: str, subject: str = "--cpus") -> float:
    """Cores of "1.5"; 0 means no limit. BadRequest otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1 << 16 or 0 < value < 0.01:
        raise BadRequest("read", subject, f'"{text}" is no number of cpus', "write it as 0.5 or 2")
    return value
