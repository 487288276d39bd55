"""SQLite's errors in our words: translated here, once.

The table is keyed by SQLite's primary result code, the low byte of the extended one
(https://sqlite.org/rescode.html).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from asyncrt.errors import StorageFailed

DAMAGED_HINT = "move it and its -wal file away to begin anew: the records in it are lost then"

_CAUSES: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space on its file system"),
    sqlite3.SQLITE_READONLY: ("the file system or the file is read-only", "choose another place by --root"),
    sqlite3.SQLITE_BUSY: (
        "locked by another process",
        "another supervisor works on this root: use it, or end it",
    ),
    sqlite3.SQLITE_LOCKED: (
        "locked by another process",
        "another supervisor works on this root: use it, or end it",
    ),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", DAMAGED_HINT),
    sqlite3.SQLITE_NOTADB: ("the file is no database", DAMAGED_HINT),
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened",
        "check the directory's permissions and file system",
    ),
    sqlite3.SQLITE_IOERR: ("the disk gave an i/o error", "look at the kernel's log"),
}


def from_sqlite(deed: str, path: Path, error: sqlite3.Error) -> StorageFailed:
    """What to raise for `error` that came of `deed` on the database at `path`."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    cause, hint = _CAUSES.get(code & 0xFF, (str(error).lower(), ""))
    return StorageFailed(deed, str(path), cause, hint)
