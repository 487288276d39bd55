"""The tables, and the way from each version of them to the next.

`PRAGMA user_version` says which version a file has; MIGRATIONS[n] leads from n to n + 1. An entry is never
changed once it was released: a new version is a new entry.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from asyncrt.errors import StorageFailed

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # The record is whole in its blob; the rest stands beside it for the index and for people who look.
        """CREATE TABLE containers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL, record BLOB NOT NULL
        )""",
        # AUTOINCREMENT: sqlite_sequence keeps the highest number ever given, also when events are trimmed.
        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, action TEXT NOT NULL,
            id TEXT NOT NULL, name TEXT NOT NULL, attributes BLOB NOT NULL
        )""",
    ),
    # Of images: a record a key each; what is in memory is asked, these are read at start-up alone (shelves.py).
    tuple(
        f"CREATE TABLE {table} (key TEXT PRIMARY KEY, record BLOB NOT NULL)" for table in ("images", "leases", "edges")
    ),
)
VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to VERSION, in one transaction. StorageFailed if it comes from a newer asyncrt.

    The transaction is opened in any case: it takes the lock that keeps a second writer away.
    """
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StorageFailed(
            "open records",
            str(path),
            f"its schema has version {version}, this asyncrt knows up to {VERSION}",
            "use the newer asyncrt, or another --root",
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    if version < VERSION:
        connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
