"""The file: what it gives back, and what it refuses."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from asyncrt.errors import StorageFailed
from asyncrt.metadata import schema
from asyncrt.metadata.store import Store
from asyncrt.model.container import Container, Exit
from asyncrt.model.events import Event
from asyncrt.model.options import Options


def record(id: str, **more: object) -> Container:
    return Container(id, f"name-of-{id}", Options(image="host:"), **more)  # type: ignore[arg-type]


def test_what_was_written_is_read_after_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "m.db")
    ended = record("b", state="stopped", timeline=(("request", 1),), exit=Exit(137, signal=9))
    event = Event(1, 123, "die", "b", "name-of-b", {"code": 137, "why": "oom"})
    store.write([record("a"), ended], [], [event])
    store.close()

    again = Store.open(tmp_path / "m.db")
    assert again.load_containers() == [record("a"), ended]
    assert again.load_names() == [("a", "name-of-a"), ("b", "name-of-b")]
    assert again.events_after(0, 10) == [event]
    assert again.last_seq() == 1
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["m.db"]


def test_any_number_of_rows_fits_into_statements(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "m.db")
    containers = [record(f"{n:04}") for n in range(1023)]
    store.write(containers, [], [])
    store.write([], [c.id for c in containers[:777]], [Event(n, 1, "x", "y") for n in range(1, 342)])
    assert store.load_containers() == containers[777:]
    assert [event.seq for event in store.events_after(40, 200)] == list(range(41, 241))
    store.close()


def test_events_are_trimmed_and_their_numbers_are_not_given_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "m.db")
    store.write([], [], [Event(n, 1, "x", "y") for n in range(1, 101)])
    store.housekeep(keep_events=10)
    assert [event.seq for event in store.events_after(0, 1000)] == list(range(91, 101))
    store.housekeep(keep_events=0)
    store.close()
    again = Store.open(tmp_path / "m.db")
    assert again.events_after(0, 10) == []
    assert again.last_seq() == 100
    again.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "m.db")
    with pytest.raises(StorageFailed, match="a value cannot be stored"):
        store.write([record("a")], [], [Event(1, 1 << 70, "x", "y")])
    assert store.load_containers() == []
    store.write([record("a")], [], [Event(1, 1, "x", "y")])
    store.close()


def test_a_second_process_is_refused_while_the_first_has_it(tmp_path: Path) -> None:
    first = Store.open(tmp_path / "m.db")
    attempt = (
        "import sys, pathlib, asyncrt.metadata.store as s\n"
        "s.LOCK_SECONDS = 0.1\n"
        "try: s.Store.open(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
    )
    command = [sys.executable, "-c", attempt, str(tmp_path / "m.db")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"open records {tmp_path}/m.db: locked by another process (another supervisor")
    first.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    said = rf"version {schema.VERSION + 1}, this asyncrt knows up to {schema.VERSION} \(use the newer asyncrt"
    with pytest.raises(StorageFailed, match=said):
        Store.open(path)


def test_each_version_is_led_to_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(tmp_path / "m.db").close()
    addition = ("ALTER TABLE containers ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, addition))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    for _ in range(2):
        store = Store.open(tmp_path / "m.db")
        store.write([record("a")], [], [])
        store.close()
    with sqlite3.connect(tmp_path / "m.db") as connection:
        assert connection.execute("SELECT colour FROM containers").fetchall() == [("red",)]
    connection.close()


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 5000, b"no database at all " * 300])
def test_a_damaged_file_is_refused_with_the_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.db"
    path.write_bytes(content)
    with pytest.raises(StorageFailed, match=r"open records .*m\.db: the file .*\(move it and its -wal file away"):
        Store.open(path)
    assert path.read_bytes() == content


def test_a_damaged_page_and_a_damaged_record_are_told(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    store = Store.open(path)
    store.write([record("a")], [], [])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE containers SET record = x'c1'")
    connection.close()
    store = Store.open(path)
    with pytest.raises(StorageFailed, match=r"record a in it is damaged: .*\(move it"):
        store.load_containers()
    store.close()

    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    store = Store.open(path)
    with pytest.raises(StorageFailed, match="the file is damaged"):
        store.load_containers()
    store.close()


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="the file cannot be opened"):
        Store.open(tmp_path / "no" / "m.db")
