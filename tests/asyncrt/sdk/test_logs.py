"""Reading a log's files back: order, times, last lines, and what a bound has dropped."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.model.log import MARKS, RECORD
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.logs import Entry, Replay

NUMBERS = {"stdout": 1, "stderr": 2}


class Files:
    """A log as a shim writes it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.open: list[dict[str, int]] = []
        self.count = 0

    def write(self, stream: str, data: bytes) -> None:
        """An arrival; the times are 100, 200, 300 ..."""
        self.count += 1
        with (self.place / stream).open("ab") as log, (self.place / "index").open("ab") as index:
            log.write(data)
            index.write(RECORD.pack(self.count * 100, len(data), NUMBERS[stream]))

    def mark(self, entry: int, stdout: int, stderr: int) -> None:
        """As a bound leaves it: holes before these."""
        (self.place / "marks").write_bytes(MARKS.pack(entry * RECORD.size, stdout, stderr))
        for name, size in (("index", entry * RECORD.size), ("stdout", stdout), ("stderr", stderr)):
            if (self.place / name).exists():
                with (self.place / name).open("r+b") as file:
                    file.write(bytes(size))

    def fds(self) -> dict[str, int]:
        made = {file.name: os.open(file, os.O_RDONLY) for file in self.place.iterdir()}
        self.open.append(made)
        return made


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    close_all(itertools.chain.from_iterable(fds.values() for fds in made.open))


def text(entries: Iterator[Entry]) -> list[str]:
    return [f"{entry.stream[3]}{entry.data.decode()}" for entry in entries]


def test_in_the_order_of_arrival_and_then_what_came_since(files: Files) -> None:
    files.write("stdout", b"a\n")
    files.write("stderr", b"b\n")
    replay = Replay(files.fds())
    assert list(replay.entries()) == [Entry(100, "stdout", b"a\n"), Entry(200, "stderr", b"b\n")]
    assert list(replay.entries()) == []
    files.write("stdout", b"c\n")
    assert list(replay.entries()) == [Entry(300, "stdout", b"c\n")]
    assert replay.offsets == {"stdout": 4, "stderr": 2}


def test_from_when_to_when(files: Files) -> None:
    for number in range(6):
        files.write("stdout", b"%d" % number)
    assert text(Replay(files.fds(), since_ns=300).entries()) == ["o2", "o3", "o4", "o5"]
    replay = Replay(files.fds(), until_ns=300)
    assert (text(replay.entries()), replay.over) == (["o0", "o1", "o2"], True)
    assert text(Replay(files.fds(), since_ns=201, until_ns=450).entries()) == ["o2", "o3"]


@pytest.mark.parametrize(
    ("arrivals", "lines", "shown"),
    [
        ("oa\n ob\n oc\n", 2, "ob\n oc\n"),
        ("oa\n ob\n oc\n", 0, ""),
        ("oa\n ob\n oc\n", 9, "oa\n ob\n oc\n"),
        ("oa\nb\nc\n", 2, "ob\nc\n"),
        ("oa\nb", 1, "ob"),
        ("oa\nb", 2, "oa\nb"),
        ("oa eb\n oc\n", 1, "oa oc\n"),  # the last line to end began before the other one
        ("oa eb\n oc\n", 2, "oa eb\n oc\n"),
        ("oa\n eb\n ec\n", 1, "ec\n"),
        ("oa\n eb\n ec\n", 3, "oa\n eb\n ec\n"),
        ("o\n\n\n", 2, "o\n\n"),
        ("oaaa obbb\n oc", 1, "oc"),
        ("oaaa obbb\n oc", 2, "oaaa obbb\n oc"),
        ("", 5, ""),
    ],
)
def test_the_last_lines(files: Files, arrivals: str, lines: int, shown: str) -> None:
    for arrival in filter(None, arrivals.split(" ")):
        files.write({"o": "stdout", "e": "stderr"}[arrival[0]], arrival[1:].encode())
    assert " ".join(text(Replay(files.fds(), tail=lines).entries())) == shown


def test_the_last_lines_of_what_is_asked_for(files: Files) -> None:
    for number in range(6):
        files.write("stdout", b"%d\n" % number)
    assert text(Replay(files.fds(), until_ns=300, tail=2).entries()) == ["o1\n", "o2\n"]
    assert text(Replay(files.fds(), since_ns=600, tail=2).entries()) == ["o5\n"]


def test_long_lines_are_searched_in_pieces(files: Files) -> None:
    line = b"x" * 200_000 + b"\n"
    for _ in range(3):
        files.write("stdout", line)
    assert b"".join(entry.data for entry in Replay(files.fds(), tail=2).entries()) == line * 2


def test_a_record_that_is_half_written_is_not_there_yet(files: Files) -> None:
    files.write("stdout", b"a")
    with (files.place / "index").open("ab") as index:
        index.write(RECORD.pack(200, 1, 1)[:7])
    with (files.place / "stdout").open("ab") as log:
        log.write(b"b")
    replay = Replay(files.fds())
    assert text(replay.entries()) == ["oa"]
    assert list(replay.rest()) == [Entry(0, "stdout", b"b")], "of one that ended nothing is kept back"
    assert list(replay.rest()) == []


def test_a_bounded_log_begins_at_its_marks(files: Files) -> None:
    for number in range(6):
        files.write("stdout", b"%d" % number)
    files.mark(4, 4, 0)
    replay = Replay(files.fds())
    assert (text(replay.entries()), replay.missed) == (["o4", "o5"], 0)


def test_what_a_bound_drops_while_it_is_read_is_counted(files: Files) -> None:
    for number in range(4):
        files.write("stdout", b"%d" % number)
    files.mark(0, 0, 0)
    replay = Replay(files.fds())
    assert text(replay.entries()) == ["o0", "o1", "o2", "o3"]
    for number in range(4, 9):
        files.write("stdout", b"%d" % number)
    files.mark(7, 7, 0)
    assert (text(replay.entries()), replay.missed) == (["o7", "o8"], 3)
