"""The picture of many starts, as lines of text: pure functions of counts and timelines, no terminal.

300 x rootfs:/srv/busybox                                    0.71 s
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸─────────────────  214/300
● 86 starting   ● 200 running   ● 14 ended   ● 0 failed       302/s

phase        p50 ms    p99 ms    max ms
queue          1.20     14.02     15.11   ▍
zygote         0.61      1.90      2.44   ▏
total          3.18     17.80     19.02
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from asyncrt.cli.tally import Counts
from asyncrt.model.container import durations

Timeline = tuple[tuple[str, int], ...]

_COLOURS = {"starting": "33", "running": "32", "ended": "34", "failed": "31"}
_DIM, _BOLD = "2", "1"
_EIGHTHS = " ▏▎▍▌▋▊▉"
WIDEST = 76  # columns; a wider picture is no easier to read
NARROWEST = 24


class Style(NamedTuple):
    """What the terminal can show."""

    colour: bool = False
    unicode: bool = True

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


class Row(NamedTuple):
    """One phase: nanoseconds, and its share of all time (0 to 1)."""

    phase: str
    p50: int
    p99: int
    max: int
    share: float


def block(title: str, counts: Counts, width: int, style: Style) -> list[str]:
    """The live block, every line at most `width` columns wide: three lines, one where it is narrow."""
    width = min(width, WIDEST)
    done = f"{counts.started + counts.failed}/{counts.asked}"
    if width < NARROWEST * 2:
        return [_fit(f"{done} started, {counts.failed} failed", width)]
    inner = width - 2
    elapsed = f"{counts.elapsed:.2f} s"
    head = _fit(title, inner - len(elapsed) - 2)
    gap = " " * (inner - len(head) - len(elapsed))
    done_width = max(len(f"{counts.asked}/{counts.asked}"), 7)
    return [
        f" {style.paint(head, _BOLD)}{gap}{style.paint(elapsed, _DIM)}",
        f" {bar(counts, inner - done_width - 2, style)}  {done:>{done_width}}",
        f" {_legend(counts, inner, style)}",
    ]


def bar(counts: Counts, width: int, style: Style) -> str:
    """Ended, running, failed and what is to come, in proportion; together exactly `width` columns."""
    signs = (
        {"ended": "━", "running": "━", "failed": "━"} if style.colour else {"ended": "═", "running": "━", "failed": "▒"}
    )
    rest = "─"
    if not style.unicode:
        signs, rest = {"ended": "=", "running": "#", "failed": "x"}, "-"
    drawn, at, total = [], 0, 0
    for name in ("ended", "running", "failed"):
        number = getattr(counts, name)
        total += number
        end = min(width, total * width // max(1, counts.asked))
        if number and end == at and at < width:
            end = at + 1  # what has happened once is seen
        drawn.append(style.paint(signs[name] * (end - at), _COLOURS[name]))
        at = end
    return "".join(drawn) + style.paint(rest * (width - at), _DIM)


def _legend(counts: Counts, width: int, style: Style) -> str:
    """As many of the counts as fit; failures and the rate first."""
    dot = "●" if style.unicode else "*"
    rate = f"{counts.rate:.0f}/s"
    for between in ("   ", "  ", " "):
        plain = between.join(f"{dot} {getattr(counts, name)} {name}" for name in _COLOURS)
        if len(plain) + len(rate) + 1 <= width:
            shown = between.join(
                f"{style.paint(dot, _COLOURS[name])} {getattr(counts, name)} {name}" for name in _COLOURS
            )
            return shown + " " * (width - len(plain) - len(rate)) + style.paint(rate, _BOLD)
    return _fit(f"{counts.started} started, {counts.failed} failed", width)


def line(counts: Counts) -> str:
    """One plain line, for those who read a log."""
    return (
        f"{counts.started} of {counts.asked} started, {counts.running} running, {counts.ended} ended, "
        f"{counts.failed} failed, {counts.rate:.0f}/s, {counts.elapsed:.1f} s"
    )


def latencies(timelines: Iterable[Timeline]) -> list[Row]:
    """A row per phase in the order in which the server named them, then `total`; nearest-rank percentiles."""
    phases: dict[str, list[int]] = {}
    totals: list[int] = []
    for timeline in timelines:
        if len(timeline) < 2:
            continue
        for phase, taken in durations(timeline).items():
            phases.setdefault(phase, []).append(taken)
        totals.append(timeline[-1][1] - timeline[0][1])
    if not totals:
        return []
    everything = sum(totals)
    phases.pop("total", None)
    return [_row(phase, taken, everything) for phase, taken in [*phases.items(), ("total", totals)]]


def _row(phase: str, taken: list[int], everything: int) -> Row:
    ordered = sorted(taken)
    p50, p99 = (ordered[max(0, math.ceil(len(ordered) * part) - 1)] for part in (0.5, 0.99))
    return Row(phase, p50, p99, ordered[-1], sum(taken) / everything if everything else 0.0)


def table(rows: Sequence[Row], width: int, style: Style) -> list[str]:
    """The latency table; where there is room, with each phase's share of the time as a bar."""
    if not rows:
        return []
    name = max(10, *(len(row.phase) for row in rows))
    head = f" {'phase':<{name}}{'p50 ms':>11}{'p99 ms':>11}{'max ms':>11}"
    room = min(width, WIDEST) - len(head) - 3
    lines = [style.paint(_fit(head, width), _DIM)]
    for row in rows:
        figures = "".join(f"{taken / 1e6:>11.2f}" for taken in (row.p50, row.p99, row.max))
        text = _fit(f" {row.phase:<{name}}{figures}", width)
        if row.phase == "total":
            lines.append(style.paint(text, _BOLD))
        elif room >= 8 and style.unicode:
            lines.append((text + "   " + style.paint(_share(row.share, room), "36")).rstrip())
        else:
            lines.append(text)
    return lines


def _share(share: float, width: int) -> str:
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…" if width > 0 else ""
