"""What the supervisor answers about containers: values of Item and End (protocol.py says which request has which)."""

from __future__ import annotations

import msgspec

from asyncrt.model.container import Exit


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of one container. `step` is created, started, failed or ended."""

    step: str
    id: str
    name: str
    index: int = 0
    pid: int = 0
    timeline: tuple[tuple[str, int], ...] = ()
    exit: Exit | None = None
    error: dict[str, str | int] | None = None


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a deed on `ref` came to."""

    ref: str
    id: str = ""
    error: dict[str, str | int] | None = None


class Attached(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the streams begin, in bytes; -1 where one was not asked for."""

    stdout: int = -1
    stderr: int = -1
