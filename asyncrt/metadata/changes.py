"""The changes that the writer takes. Those of one commit are one: all or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asyncrt.model.container import Container


class PutContainer(NamedTuple):
    """Make this the record of its id; Conflict if the name belongs to another container."""

    container: Container


class DropContainer(NamedTuple):
    """Forget the record of `id`; nothing happens if there is none."""

    id: str


class AppendEvent(NamedTuple):
    """Say that something happened. `time_ns` since 1970; 0 takes the time when the change was handed over."""

    action: str
    id: str
    name: str = ""
    attributes: Mapping[str, str | int] = {}
    time_ns: int = 0


Change = PutContainer | DropContainer | AppendEvent
