"""What a front asks of the planner, as `struct request` of shimd/command/front/asking.c has it."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

MOST_BYTES = 16384
KEPT_KEYRING = 1  # a flag of a request: --no-new-keyring
HEAD = struct.Struct("=20Q")
MAGIC = 0x3130666E6C706361


class Request(NamedTuple):
    """What a front asks. `base` and `room`: where its buffer for the answer is, and how much that holds."""

    flags: int
    base: int
    room: int
    likeness: tuple[int, ...]
    bundle: str
    id: str


def read(packet: bytes) -> Request | None:
    """A front's packet; None if it is no such thing."""
    if len(packet) < HEAD.size:
        return None
    magic, flags, base, room, *likeness = HEAD.unpack_from(packet)
    words = packet[HEAD.size :].split(b"\0")
    if magic != MAGIC or len(words) != 3 or words[2]:
        return None
    return Request(flags, base, room, tuple(likeness), os.fsdecode(words[0]), os.fsdecode(words[1]))
