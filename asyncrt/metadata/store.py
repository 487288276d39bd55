"""The file of records and events: opened, read and written, synchronously.

    store = Store.open(root / "metadata.db")
    for container in store.load_containers(): ...
    store.write(puts=[container], drops=[], events=[event])     # one transaction
    store.close()

WAL with synchronous=NORMAL: a commit is a write() into the WAL, so it survives the death of the process, and
costs no fsync; a machine that loses power may lose the last commits, never the file. Methods may be called
from any thread, one at a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from asyncrt.errors import StorageFailed
from asyncrt.metadata import schema
from asyncrt.metadata.failures import DAMAGED_HINT, from_sqlite
from asyncrt.metadata.shelves import DROP, PUT, Shelved, decoder
from asyncrt.model.container import Container
from asyncrt.model.events import Event
from asyncrt.model.image import Edges, Lease, NamedImage

LOCK_SECONDS = 2.0  # for a supervisor that is on its way out

# Rows per statement. One statement for many rows, not executemany: that gives the interpreter lock away
# with every row, and beside a busy event loop each return may wait 5 ms for it (300 rows: 0.6 to 2.7 s
# against 50 to 70 ms). Fixed sizes, so that the texts stay in the connection's cache of prepared
# statements.
_CHUNKS = (256, 64, 16, 4, 1)

_PUT = (
    "INSERT INTO containers (id, name, state, record) VALUES {rows} ON CONFLICT (id) DO UPDATE SET"
    " name = excluded.name, state = excluded.state, record = excluded.record"
)
_DROP = "DELETE FROM containers WHERE id IN (VALUES {rows})"
_APPEND = "INSERT INTO events (seq, time_ns, action, id, name, attributes) VALUES {rows}"

_encode = msgspec.msgpack.Encoder().encode
_decode_container = msgspec.msgpack.Decoder(Container).decode
_decode_attributes = msgspec.msgpack.Decoder(dict[str, str | int]).decode


class Store:
    """One open database file, locked against other processes."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._wal = path.with_name(f"{path.name}-wal")

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open or create the file at `path` (its directory must be there), and lock it.

        StorageFailed: the file is damaged, of a newer schema or locked, or the disk refuses.
        """
        try:
            # isolation_level=None: the module begins no transactions on its own.
            connection = sqlite3.connect(path, LOCK_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise from_sqlite("open records", path, error) from error
        try:
            # EXCLUSIVE before WAL: the lock is held until close, a second supervisor on this root is refused,
            # and the WAL's index lives in memory instead of a -shm file. The price: no sqlite3(1) meanwhile.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # it would fsync inside a commit; see housekeep()
            schema.migrate(connection, path)
        except sqlite3.Error as error:
            connection.close()
            raise from_sqlite("open records", path, error) from error
        except StorageFailed:
            connection.close()
            raise
        return cls(connection, path)

    def close(self) -> None:
        """Fold the WAL into the file and let go of it. What was committed is safe even if this fails."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise from_sqlite("close records", self.path, error) from error

    # Reading

    def load_containers(self) -> list[Container]:
        """All records, in the order in which they were first put. StorageFailed names one that is damaged."""
        rows = self._read("SELECT id, record FROM containers ORDER BY rowid")
        containers = []
        for id, record in rows:
            try:
                containers.append(_decode_container(record))
            except msgspec.DecodeError as error:
                cause = f"record {id} in it is damaged: {error}"
                raise StorageFailed("read records", str(self.path), cause, DAMAGED_HINT) from error
        return containers

    def load_names(self) -> list[tuple[str, str]]:
        """(id, name) of every record."""
        return self._read("SELECT id, name FROM containers")

    def load_images(self) -> list[NamedImage]:
        """All names of images. StorageFailed names a record that is damaged."""
        return self._shelf("images")

    def load_leases(self) -> list[Lease]:
        """All leases, also those that have expired."""
        return self._shelf("leases")

    def load_edges(self) -> list[Edges]:
        """What each blob refers to, as far as anybody said."""
        return self._shelf("edges")

    def _shelf(self, table: str) -> list[Any]:
        decode = decoder(table)
        found = []
        for key, record in self._read(f"SELECT key, record FROM {table} ORDER BY key"):  # noqa: S608 - our own names
            try:
                found.append(decode(record))
            except msgspec.DecodeError as error:
                cause = f"the record {key} of {table} in it is damaged: {error}"
                raise StorageFailed("read records", str(self.path), cause, DAMAGED_HINT) from error
        return found

    def events_after(self, seq: int, limit: int) -> list[Event]:
        """Up to `limit` events with numbers above `seq`, in order.

        The first may have a number above seq + 1: those between were trimmed.
        """
        rows = self._read(
            "SELECT seq, time_ns, action, id, name, attributes FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        try:
            return [
                Event(seq, time_ns, action, id, name, _decode_attributes(attributes))
                for seq, time_ns, action, id, name, attributes in rows
            ]
        except msgspec.DecodeError as error:
            cause = f"an event after {seq} in it is damaged: {error}"
            raise StorageFailed("read events", str(self.path), cause, DAMAGED_HINT) from error

    def last_seq(self) -> int:
        """The highest number that an event ever had; 0 before the first."""
        rows = self._read("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0][0]) if rows else 0

    def _read(self, query: str, values: Sequence[int] = ()) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise from_sqlite("read records", self.path, error) from error

    # Writing

    def write(
        self, puts: Iterable[Container], drops: Iterable[str], events: Iterable[Event], shelved: Shelved | None = None
    ) -> int:
        """One transaction: first the drops, then the puts, then the events, then what is shelved.

        The bytes that the WAL has now.

        Of the containers in `puts` no two may have one id. StorageFailed: nothing of it is there.
        """
        try:
            records = [(c.id, c.name, c.state, _encode(c)) for c in puts]
            entries = [(e.seq, e.time_ns, e.action, e.id, e.name, _encode(e.attributes)) for e in events]
            self._connection.execute("BEGIN IMMEDIATE")
            self._each(_DROP, [(id,) for id in drops])
            self._each(_PUT, records)
            self._each(_APPEND, entries)
            for table, rows in (shelved or {}).items():
                self._each(DROP[table], [(key,) for key, value in rows.items() if value is None])
                self._each(PUT[table], [(key, _encode(value)) for key, value in rows.items() if value is not None])
            self._connection.execute("COMMIT")
            return self._wal.stat().st_size
        except sqlite3.Error as error:
            self._abandon()
            raise from_sqlite("write records", self.path, error) from error
        except (
            ValueError,
            TypeError,
            OverflowError,
        ) as error:  # a surrogate in a string, 65 bits in a number
            self._abandon()
            raise StorageFailed("write records", str(self.path), f"a value cannot be stored: {error}") from error

    def _abandon(self) -> None:
        # A full disk ends the transaction on its own, other errors do not; a second failure adds nothing.
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _each(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        done = 0
        for size in _CHUNKS:
            while len(rows) - done >= size:
                chunk = rows[done : done + size]
                one = f"({','.join('?' * len(chunk[0]))})"
                text = statement.format(rows=",".join([one] * size))
                self._connection.execute(text, [value for row in chunk for value in row])
                done += size

    def housekeep(self, keep_events: int) -> None:
        """Trim all but the newest `keep_events` events, fold the WAL into the file and empty it; two fsyncs.

        To be called now and then: the WAL grows until it is called.
        """
        try:
            self._connection.execute("DELETE FROM events WHERE seq <= ?", (self.last_seq() - keep_events,))
            self._connection.execute("PRAGMA wal_checkpoint (TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            raise from_sqlite("trim records", self.path, error) from error
