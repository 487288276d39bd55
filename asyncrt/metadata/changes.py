"""The changes that the writer takes. Those of one commit are one: all or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from asyncrt.model.container import Container
from asyncrt.model.image import Edges, Lease, NamedImage


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


class PutImage(NamedTuple):
    """Make this what the name means."""

    image: NamedImage


class DropImage(NamedTuple):
    """Forget a name; nothing happens if there is none."""

    name: str


class PutLease(NamedTuple):
    """Make this the lease of its id."""

    lease: Lease


class DropLease(NamedTuple):
    """Forget the lease of `id`; nothing happens if there is none."""

    id: str


class PutEdges(NamedTuple):
    """Make these the blobs that a blob refers to."""

    edges: Edges


class DropEdges(NamedTuple):
    """Forget what the blob `digest` refers to: it is collected."""

    digest: str


ImageChange = PutImage | DropImage | PutLease | DropLease | PutEdges | DropEdges
Change = PutContainer | DropContainer | AppendEvent | ImageChange
