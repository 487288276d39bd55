"""docker's and the CRI's form of the log: what a line becomes, and how the files rotate."""

import json
import os
import re
from pathlib import Path

import pytest

from shimd.server.formats import LINE, Copy, cri, json_file, moment_of
from shimd.server.log import Log
from shimd.wire.values import LogWish

MOMENT = "2026-01-02T03:04:05.000000006Z"
BOUND = 64 * 1024


def close(copy: Copy) -> None:
    for fd in (*copy.log.files.values(), copy.log.index, copy.log.marks, copy.file):
        if fd >= 0:
            os.close(fd)


def written(place: Path, form: str, *arrivals: tuple[int, bytes]) -> list[str]:
    """The lines of the file after these arrivals."""
    log = Log(str(place))
    copy = Copy(log, LogWish(form))
    for stream, data in arrivals:
        log.write(data, stream)
        assert copy.caught_up()
    copy.end()
    close(copy)
    return Path(copy.path).read_text().splitlines()


def test_a_moment() -> None:
    assert moment_of(1767323045_000000006) == MOMENT
    assert moment_of(0) == "1970-01-01T00:00:00.000000000Z"


@pytest.mark.parametrize(
    "text", [b"plain\n", b'quote " and \\ and \t\n', b"\x1b[1mbold\x1b[0m\n", "wörd \u2028\n".encode(), b"no end"]
)
def test_json_is_read_by_a_reader_of_json(text: bytes) -> None:
    line = json_file(text, "stdout", MOMENT)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"log": text.decode(), "stream": "stdout", "time": MOMENT}


def test_json_of_what_is_no_text() -> None:
    assert json.loads(json_file(b"\xff\xfe\n", "stderr", MOMENT))["log"] == "\ufffd\ufffd\n"


def test_cri() -> None:
    assert cri(b"whole\n", "stdout", MOMENT) == f"{MOMENT} stdout F whole\n".encode()
    assert cri(b"a part", "stderr", MOMENT) == f"{MOMENT} stderr P a part\n".encode()
    assert cri(b"\n", "stderr", MOMENT) == f"{MOMENT} stderr F \n".encode()


def test_lines_and_not_arrivals(tmp_path: Path) -> None:
    lines = written(tmp_path, "cri", (1, b"on"), (2, b"err\n"), (1, b"e\ntwo\nthr"), (1, b"ee"))
    words = [line.split(" ", 1)[1] for line in lines]
    assert words == ["stderr F err", "stdout F one", "stdout F two", "stdout P three"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line.split(" ")[0]) for line in lines)


def test_a_long_line_comes_in_parts(tmp_path: Path) -> None:
    long = bytes(65 + place % 26 for place in range(2 * LINE + 100))
    lines = [json.loads(line)["log"] for line in written(tmp_path, "json-file", (1, long + b"\nnext\n"))]
    assert [len(line) for line in lines] == [LINE, LINE, 101, 5]
    assert "".join(lines).encode() == long + b"\nnext\n"


def test_a_line_of_just_that_length(tmp_path: Path) -> None:
    lines = [json.loads(line)["log"] for line in written(tmp_path, "json-file", (1, b"x" * LINE), (1, b"\n"))]
    assert "".join(lines) == "x" * LINE + "\n"


@pytest.mark.parametrize("files", [1, 3])
def test_rotation(tmp_path: Path, files: int) -> None:
    log = Log(str(tmp_path))
    copy = Copy(log, LogWish("json-file", BOUND, files))
    for number in range(3000):
        log.write(b"%d " % number * 20 + b"\n", 1)
        assert copy.caught_up()
    copy.end()
    close(copy)
    names = [f"json.log.{number}" for number in range(files - 1, 0, -1)] + ["json.log"]
    assert sorted(path.name for path in tmp_path.glob("json.log*")) == sorted(names)
    kept = [json.loads(line) for name in names for line in (tmp_path / name).read_text().splitlines()]
    numbers = [int(line["log"].split()[0]) for line in kept]
    assert numbers == list(range(numbers[0], 3000))
    assert numbers[0] > 0
    for name in names:
        assert (tmp_path / name).stat().st_size <= BOUND


def test_the_next_run_goes_on(tmp_path: Path) -> None:
    first = written(tmp_path, "cri", (1, b"one\n"))
    both = written(tmp_path, "cri", (1, b"two\n"))
    assert both[:1] == first
    assert [line.split()[-1] for line in both] == ["one", "two"]


def test_a_full_disk_is_caught_up_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(str(tmp_path))
    copy = Copy(log, LogWish("cri"))
    log.write(b"first\n", 1)
    assert copy.caught_up()
    full, kept = os.open("/dev/full", os.O_WRONLY), os.dup(copy.file)
    os.dup2(full, copy.file)
    for word in (b"second\n", b"third\n"):
        log.write(word, 1)
        assert not copy.caught_up()
    os.dup2(kept, copy.file)
    copy.end()
    close(copy)
    os.close(full)
    os.close(kept)
    assert [line.split()[-1] for line in Path(copy.path).read_text().splitlines()] == ["first", "second", "third"]
    assert capsys.readouterr().err.count("(the native log has it)") == 1


def test_behind_a_bounded_log_it_goes_on_where_that_begins(tmp_path: Path) -> None:
    log = Log(str(tmp_path), BOUND)
    copy = Copy(log, LogWish("cri"))
    for number in range(30_000):
        log.write(b"%d\n" % number, 1)
    copy.end()
    close(copy)
    numbers = [int(line.split()[-1]) for line in Path(copy.path).read_text().splitlines()]
    assert numbers == list(range(numbers[0], 30_000))
    assert numbers[0] > 0
