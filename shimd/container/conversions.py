"""A wish of the config as the text that a cgroup file takes: the conversions of the table in limits.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shimd.errors import RuntimeTrouble, Trouble
from shimd.spec.resources import HugepageLimit, InterfacePriority, Rdma, ThrottleDevice

Text = Callable[[Any], str]


def most(value: int) -> str:
    """v2's word for no limit."""
    return "max" if value < 0 else str(value)


def flag(value: bool) -> str:
    """1 or 0."""
    return str(int(value))


def one_at_least(value: int) -> str:
    """The least of tasks that lets a container be born."""
    return most(value or 1)


def weight_of_shares(shares: int) -> str:
    """v1's 2 to 262144 (1024 is normal) onto v2's 1 to 10000 (100 is normal): the curve through these three points.

    As runc 1.3.2 and crun 1.23 have it (opencontainers/cgroups, commit fd95216; kubernetes#131216). The straight line
    that they had before made 39 of 1024: less than half of what a cgroup weighs that nobody gave a weight.
    """
    if not 2 < shares < 262144:
        return "1" if shares <= 2 else "10000"
    exponent = math.log2(shares)
    return str(math.ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34)))


def io_weight(weight: int) -> str:
    """10 to 1000 onto io.weight's 1 to 10000, as runc and crun do."""
    return str(1 + (weight - 10) * 9999 // 990)


def swap_alone(wish: tuple[int, int]) -> str:
    """The spec's swap counts memory too, v2's does not: RuntimeTrouble if there is no memory limit to take off."""
    swap, memory = wish
    if not memory:
        path = "$.linux.resources.memory.swap"
        raise RuntimeTrouble(Trouble("plan", path, "it counts memory too, and memory has no limit"))
    return str(swap - memory)


def throttle(wish: ThrottleDevice) -> str:
    """v1: 0 is no limit."""
    return f"{wish.major}:{wish.minor} {wish.rate}"


def rate(key: str) -> Text:
    """io.max has no 0: what v1 calls a limit of 0 is none."""
    return lambda wish: f"{wish.major}:{wish.minor} {key}={wish.rate or 'max'}"


def for_device(field: str, convert: Text = str) -> Text:
    """`field` of a wish about one device."""
    return lambda wish: f"{wish.major}:{wish.minor} {convert(getattr(wish, field))}"


def page_limit(wish: HugepageLimit) -> str:
    """Bytes."""
    return str(wish.limit)


def priority(wish: InterfacePriority) -> str:
    """Of one interface."""
    return f"{wish.name} {wish.priority}"


def handles(wish: tuple[str, Rdma]) -> str:
    """Of one device: what is not named stays."""
    device, limits = wish
    words = [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)]
    return " ".join([device, *(f"{key}={value}" for key, value in words if value is not None)])
