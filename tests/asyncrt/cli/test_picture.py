"""The picture as text: counts and timelines in, lines out."""

import re

import pytest

from asyncrt.cli import picture
from asyncrt.cli.live import style
from asyncrt.cli.picture import Style
from asyncrt.cli.tally import Counts, Tally
from asyncrt.model.container import Exit
from asyncrt.model.protocol import Progress

PLAIN = Style(colour=False, unicode=True)
ASCII = Style(colour=False, unicode=False)
HALF = Counts(asked=300, starting=86, running=200, ended=12, failed=2, elapsed=0.71, rate=302.4)


def bare(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_the_block() -> None:
    assert picture.block("300 x rootfs:/srv/busybox", HALF, 66, PLAIN) == [
        " 300 x rootfs:/srv/busybox                                 0.71 s",
        " ══━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━▒────────────────  214/300",
        " ● 86 starting   ● 200 running   ● 12 ended   ● 2 failed    302/s",
    ]


@pytest.mark.parametrize("width", [1, 10, 24, 47, 48, 60, 79, 300])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, colour: bool) -> None:
    drawn = Style(colour, True)
    huge = Counts(100_000, 33_333, 33_333, 33_333, 1, 1e5, 99_999.0)
    lines = picture.block("t" * 200, huge, width, drawn)
    lines += picture.table(picture.latencies([TIMELINE]), width, drawn)
    assert max(len(bare(line)) for line in lines) <= width


@pytest.mark.parametrize("counts", [HALF, Counts(3, 3, 0, 0, 0, 0, 0), Counts(1000, 0, 0, 999, 1, 2, 500)])
@pytest.mark.parametrize("drawn", [PLAIN, ASCII, Style(True, True)])
def test_the_bar_is_as_wide_as_told(counts: Counts, drawn: Style) -> None:
    assert len(bare(picture.bar(counts, 37, drawn))) == 37


def test_one_failure_among_thousands_is_seen() -> None:
    assert "x" in picture.bar(Counts(10_000, 5_000, 4_999, 0, 1, 1, 1), 40, ASCII)


def test_ascii_is_ascii() -> None:
    lines = picture.block("n", HALF, 80, ASCII) + picture.table(picture.latencies([TIMELINE]), 80, ASCII)
    assert all(line.isascii() for line in lines)


def test_no_colour_means_no_escape() -> None:
    assert "\x1b" not in "".join(picture.block("n", HALF, 80, PLAIN))
    assert "\x1b" in "".join(picture.block("n", HALF, 80, Style(True, True)))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "C.UTF-8"}, Style(True, True)),
        ({"LANG": "en_US.utf8", "NO_COLOR": "1"}, Style(False, True)),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, Style(True, False)),
        ({"NO_COLOR": ""}, Style(True, False)),
    ],
)
def test_style(environment: dict[str, str], expected: Style) -> None:
    assert style(environment) == expected


TIMELINE = (("request", 0), ("queue", 1_000_000), ("mounts", 4_000_000), ("exec", 5_000_000))


def test_latencies_keep_the_servers_names_and_order_and_add_the_total() -> None:
    rows = picture.latencies([TIMELINE, (), (("request", 5),)])
    assert [(row.phase, row.p50) for row in rows] == [
        ("queue", 1_000_000),
        ("mounts", 3_000_000),
        ("exec", 1_000_000),
        ("total", 5_000_000),
    ]
    assert [round(row.share, 3) for row in rows] == [0.2, 0.6, 0.2, 1.0]


def test_percentiles_are_nearest_rank() -> None:
    (row, _) = picture.latencies([(("request", 0), ("exec", n)) for n in range(1, 101)])
    assert (row.p50, row.p99, row.max) == (50, 99, 100)


def test_the_table() -> None:
    assert picture.table(picture.latencies([TIMELINE]), 60, PLAIN) == [
        " phase          p50 ms     p99 ms     max ms",
        " queue            1.00       1.00       1.00   ██▋",
        " mounts           3.00       3.00       3.00   ███████▊",
        " exec             1.00       1.00       1.00   ██▋",
        " total            5.00       5.00       5.00",
    ]
    assert picture.table([], 60, PLAIN) == []


def test_tally_puts_each_container_in_one_place() -> None:
    tally = Tally(4, begin=10.0)
    for index, step in enumerate(("created", "started", "failed")):
        tally.feed(Progress(step, str(index), f"n{index}", index), 11.0)
    assert tally.counts(12.0) == Counts(4, 2, 1, 0, 1, 2.0, 0.5)
    tally.feed(Progress("ended", "1", "n1", 1, exit=Exit(0)), 12.0)
    tally.feed(Progress("started", "1", "n1", 1), 12.0)
    assert tally.counts(12.0)[1:5] == (2, 0, 1, 1)


def test_the_rate_stops_with_the_last_start() -> None:
    tally = Tally(2, begin=0.0)
    for id in "ab":
        tally.feed(Progress("started", id, id), 0.5)
    assert tally.counts(100.0).rate == 4.0
