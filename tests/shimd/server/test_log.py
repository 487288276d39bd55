"""The log by itself: its bound, its marks, its holes, and what another run finds."""

import errno
import functools
import os
import random
from pathlib import Path

import pytest

from asyncrt.model import log as reader
from shimd.linux import files
from shimd.server.log import Log

KIB = 1024


def close(log: Log) -> None:
    for fd in (*log.files.values(), log.index, log.marks):
        if fd >= 0:
            os.close(fd)


def contents(place: Path) -> list[tuple[str, int, bytes]]:
    """(stream, offset, bytes) of every arrival that is kept, read as a client does."""
    fds = {path.name: os.open(path, os.O_RDONLY) for path in place.iterdir()}
    reads = {name: functools.partial(os.pread, fd) for name, fd in fds.items()}
    begin = reader.marks(reads.get("marks"))
    found = [
        (arrival.stream, arrival.offset, reads[arrival.stream](arrival.length, arrival.offset))
        for arrival in reader.arrivals(reads["index"], begin)
    ]
    for fd in fds.values():
        os.close(fd)
    return found


def disk(place: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in place.iterdir())


def feed(log: Log, count: int, seed: int = 1) -> dict[int, bytes]:
    """Arrivals of many sizes on both streams; what each stream was given."""
    dice = random.Random(seed)
    given = {1: bytearray(), 2: bytearray()}
    for number in range(count):
        stream = 1 if dice.random() < 0.8 else 2
        data = f"<{number}>".encode() * dice.choice((1, 10, 100, 1000))
        while data:
            taken = log.write(data, stream)
            given[stream] += data[:taken]
            data = data[taken:]
    return {stream: bytes(data) for stream, data in given.items()}


def test_without_a_bound_all_is_kept(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    given = feed(log, 300)
    close(log)
    assert (tmp_path / "stdout").read_bytes() == given[1]
    assert (tmp_path / "stderr").read_bytes() == given[2]
    assert not (tmp_path / "marks").exists()
    found = contents(tmp_path)
    assert b"".join(data for stream, _, data in found if stream == "stdout") == given[1]


@pytest.mark.parametrize("bound", [64 * KIB, 300 * KIB])
def test_a_bound_holds_and_the_newest_is_kept(tmp_path: Path, bound: int) -> None:
    log = Log(str(tmp_path), bound)
    given = {1: b"", 2: b""}
    for seed in range(10):
        for stream, data in feed(log, 100, seed).items():
            given[stream] += data
        assert disk(tmp_path) <= bound
    close(log)
    assert sum(map(len, given.values())) > 3 * bound
    found = contents(tmp_path)
    for number, name in ((1, "stdout"), (2, "stderr")):
        pieces = [(offset, data) for stream, offset, data in found if stream == name]
        kept = b"".join(data for _, data in pieces)
        assert given[number].endswith(kept)
        assert all(given[number][offset:].startswith(data) for offset, data in pieces)
    assert sum(len(data) for _, _, data in found) > bound // 4


def test_single_bytes_count_with_their_index(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 64 * KIB)
    for _ in range(20_000):
        log.write(b"x", 1)
    close(log)
    assert disk(tmp_path) <= 64 * KIB
    assert (tmp_path / "stdout").stat().st_size == 20_000


def test_a_quiet_stream_does_not_hold_the_other(tmp_path: Path) -> None:
    """The oldest goes first, whoever wrote it: stderr's one early line must not keep the whole index."""
    log = Log(str(tmp_path), 64 * KIB)
    log.write(b"early", 2)
    feed(log, 1)
    for _ in range(100):
        log.write(b"y" * 10_000, 1)
    assert log.firsts[2] == 5
    close(log)
    assert disk(tmp_path) <= 64 * KIB


def test_the_next_run_goes_on(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 64 * KIB)
    first = feed(log, 200)
    close(log)
    log = Log(str(tmp_path), 64 * KIB)
    log.open(1)
    assert log.sizes == {number: len(data) for number, data in first.items()}
    second = feed(log, 200, seed=2)
    close(log)
    assert disk(tmp_path) <= 64 * KIB
    for stream, offset, data in contents(tmp_path):
        number = 1 if stream == "stdout" else 2
        assert (first[number] + second[number])[offset:].startswith(data)


def test_a_file_system_without_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no holes here")

    monkeypatch.setattr(files, "punch_hole", refused)
    log = Log(str(tmp_path), 64 * KIB)
    given = feed(log, 300)
    close(log)
    assert disk(tmp_path) <= 64 * KIB
    for stream, offset, data in contents(tmp_path):
        assert given[1 if stream == "stdout" else 2][offset:].startswith(data)
    log = Log(str(tmp_path), 64 * KIB)
    log.open(2)
    assert log.sizes[1] == len(given[1])
    close(log)


def test_a_reader_behind_the_marks_meets_a_hole(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 64 * KIB)
    feed(log, 10)
    begin = reader.Marks()
    feed(log, 400)
    with (tmp_path / "index").open("rb") as index:
        read = functools.partial(os.pread, index.fileno())
        assert list(reader.arrivals(read, begin)) == []
    close(log)
