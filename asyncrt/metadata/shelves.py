"""The tables of images: a record under a key each. What a change puts there, and how it is read back.

images   name -> NamedImage        leases   id -> Lease        edges   digest -> Edges
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from asyncrt.metadata.changes import DropEdges, DropImage, DropLease, ImageChange, PutEdges, PutImage, PutLease
from asyncrt.model.image import Edges, Lease, NamedImage

TABLES: Mapping[str, type[msgspec.Struct]] = {"images": NamedImage, "leases": Lease, "edges": Edges}
PUT = {
    table: f"INSERT INTO {table} VALUES {{rows}} ON CONFLICT (key) DO UPDATE SET record = excluded.record"  # noqa: S608 - our own names
    for table in TABLES
}
DROP = {table: f"DELETE FROM {table} WHERE key IN (VALUES {{rows}})" for table in TABLES}  # noqa: S608 - our own names

# table -> key -> record, or None for one that is dropped
Shelved = dict[str, dict[str, msgspec.Struct | None]]


def shelve(change: ImageChange, shelved: Shelved) -> None:
    """Note what the change puts or drops; of several for one key the last counts."""
    table, key, record = _row(change)
    shelved.setdefault(table, {})[key] = record


def _row(change: ImageChange) -> tuple[str, str, msgspec.Struct | None]:
    match change:
        case PutImage(image):
            return "images", image.name, image
        case DropImage(name):
            return "images", name, None
        case PutLease(lease):
            return "leases", lease.id, lease
        case DropLease(id):
            return "leases", id, None
        case PutEdges(edges):
            return "edges", edges.digest, edges
        case DropEdges(digest):
            return "edges", digest, None


def decoder(table: str) -> Any:
    """What reads a table's records."""
    return msgspec.msgpack.Decoder(TABLES[table]).decode
