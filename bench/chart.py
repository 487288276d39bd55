"""The picture of a run: four panels of horizontal bars in one SVG, written by hand.

Rates at every count; run-to-completion; CPU of start and of removal on one bar; memory of the helper beside
each container. All axes are linear and begin at zero: a bar twice as long is twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from bench.report import DECIDES, OURS, Row

_WIDTH, _MARGIN, _GAP, _HEAD = 1200, 40, 56, 128
_PANEL = (_WIDTH - 2 * _MARGIN - _GAP) / 2
_LABELS, _VALUES = 122, 96  # px at the left for names, at the right for figures
_INK, _SOFT, _LINE = "#1b2733", "#5b6875", "#c3ccd5"
_FONTS = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
# Ours and theirs, from the first shade (first count, or start) to the last.
_OURS, _THEIRS = ("#f6b48f", "#ee7f45", "#d2500f"), ("#bccbda", "#8aa3bb", "#56738f")


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a panel: segments stacked end to end (value, shade 0 to 2) and the figure behind them."""

    segments: tuple[tuple[float, int], ...]
    text: str

    @property
    def length(self) -> float:
        return sum(value for value, _ in self.segments)


@dataclass(frozen=True, slots=True)
class Group:
    """What a panel says of one peer."""

    peer: str
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    note: str
    legend: list[tuple[str, int]]
    groups: list[Group]
    bar: int = 16  # px

    @property
    def height(self) -> float:
        return 62 + sum(len(group.bars) * (self.bar + 2) + 12 for group in self.groups)


def draw(document: dict[str, Any], summary: dict[int, dict[str, Row]]) -> str:
    """The SVG as text. CPU and memory are those at 300 containers, or at the largest count without that."""
    count = DECIDES if DECIDES in summary else max(summary)
    left = [_rates(summary), _completions(document)]
    right = [_cpu(summary[count], count), _memory(summary[count], count)]
    columns = [[panel for panel in column if panel.groups] for column in (left, right)]
    notes = _notes(document)
    height = max(sum(panel.height + 30 for panel in column) for column in columns)
    total = _HEAD + height + 18 * len(notes) + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {total:.0f}" width="{_WIDTH}"'
        f' height="{total:.0f}" font-family="{_FONTS}">'
    )
    parts = [
        head,
        _rect(0, 0, _WIDTH, total, "#ffffff"),
        _text(_MARGIN, 52, "Hundreds of containers at once", 28, _INK, weight="bold"),
        _text(_MARGIN, 80, _subtitle(document), 14, _SOFT),
    ]
    for column, x in zip(columns, (_MARGIN, _MARGIN + _PANEL + _GAP), strict=True):
        y = float(_HEAD)
        for panel in column:
            parts += _draw_panel(panel, x, y)
            y += panel.height + 30
    for number, note in enumerate(notes):
        parts.append(_text(_MARGIN, _HEAD + height + 8 + 18 * number, note, 12, _SOFT))
    return "\n".join([*parts, "</svg>", ""])


def _rates(summary: dict[int, dict[str, Row]]) -> Panel:
    counts = sorted(summary)[-3:]
    shades = dict(zip(counts, (2,) if len(counts) == 1 else (0, 2) if len(counts) == 2 else (0, 1, 2), strict=True))
    groups = []
    for peer in dict.fromkeys(peer for count in counts for peer in summary[count]):
        bars = []
        for count in counts:
            rate = summary[count].get(peer, {}).get("start_rate")
            if rate is not None:
                bars.append(Bar(((rate, shades[count]),), f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"))
            elif peer in summary[count]:
                bars.append(Bar((), "failed"))
        if bars:
            groups.append(Group(peer, bars))
    legend = [(f"{count} at once", shades[count]) for count in counts]
    note = "containers per second, from the first request until all run; longer is better"
    return Panel("Concurrent starts", note, legend, groups, bar=11 if len(counts) > 1 else 16)


def _completions(document: dict[str, Any]) -> Panel:
    groups = [
        Group(peer, [Bar(((row["complete_rate"], 2),), f"{row['complete_rate']:.1f}")])
        for peer, row in document["completions"].items()
    ]
    number = document["settings"]["complete"]
    note = f"{number} x `true` per second: started, waited for and removed; longer is better"
    return Panel("Run to completion", note, [], groups)


def _cpu(rows: dict[str, Row], count: int) -> Panel:
    groups = []
    for peer, row in rows.items():
        start, remove = row.get("start_cpu_ms"), row.get("remove_cpu_ms")
        if start is None or remove is None:
            continue
        bar = Bar(((max(0.0, start), 2), (max(0.0, remove), 0)), f"{start:.1f} + {remove:.1f}")
        groups.append(Group(peer, [bar]))
    note = f"milliseconds of the whole machine, at {count} containers; shorter is better"
    return Panel("CPU per container", note, [("start", 2), ("kill and remove", 0)], groups)


def _memory(rows: dict[str, Row], count: int) -> Panel:
    groups = []
    for peer, row in rows.items():
        private = row.get("helper_private_kib")
        if private is None:
            continue
        text = f"{private:.0f} KiB" if row.get("helpers") else "no helper"
        groups.append(Group(peer, [Bar(((private, 2),), text)]))
    note = f"private KiB of the shim or monitor, median at {count} containers; shorter is better"
    return Panel("Memory beside each container", note, [], groups)


def _draw_panel(panel: Panel, x: float, y: float) -> list[str]:
    parts = [
        _text(x, y, panel.title, 18, _INK, weight="bold"),
        _text(x, y + 20, panel.note, 12, _SOFT),
    ]
    at = x + _PANEL
    for words, shade in reversed(panel.legend):
        at -= 8 + 6.2 * len(words)
        parts.append(_text(at, y, words, 12, _SOFT))
        at -= 30
        for offset, colors in ((0, _OURS), (12, _THEIRS)):
            parts.append(_rect(at + offset, y - 10, 11, 11, colors[shade]))
        at -= 12
    longest = max(bar.length for group in panel.groups for bar in group.bars) or 1.0
    scale = (_PANEL - _LABELS - _VALUES) / longest
    top = y + 38
    for group in panel.groups:
        ours = group.peer.startswith(OURS)
        colors = _OURS if ours else _THEIRS
        high = len(group.bars) * (panel.bar + 2)
        weight = "bold" if ours else "normal"
        name = _text(x + _LABELS - 12, top + high / 2 + 4, group.peer, 13, _INK, weight=weight, anchor="end")
        parts.append(name)
        parts.append(_rect(x + _LABELS - 2, top - 3, 1, high + 4, _LINE))
        for number, bar in enumerate(group.bars):
            level, start = top + number * (panel.bar + 2), x + _LABELS
            for value, shade in bar.segments:
                width = max(1.0, value * scale)
                parts.append(_rect(start, level, width, panel.bar, colors[shade]))
                start += width
            size = min(13, panel.bar)
            parts.append(_text(start + 6, level + panel.bar / 2 + size * 0.36, bar.text, size, _INK, weight=weight))
        top += high + 12
    return parts


def _subtitle(document: dict[str, Any]) -> str:
    machine, rounds = document["machine"], document["settings"]["rounds"]
    how = "one round" if rounds == 1 else f"median of {rounds} interleaved rounds"
    return (
        f"{machine['cpus']} CPUs, {machine['memory_kib'] / 2**20:.0f} GiB, Linux {machine['kernel']}, "
        f"cgroups {machine['cgroups']}; busybox `sleep 600`, no network; "
        f"{how}; {document['started'][:10]}"
    )


def _notes(document: dict[str, Any]) -> list[str]:
    versions = [f"{peer} {about['version'][:40]}" for peer, about in document["peers"].items()]
    lines: list[str] = []
    line = "Versions: "
    for version in versions:
        if len(line) + len(version) > 160:
            lines, line = [*lines, line], ""
        line += version + "; "
    idle = document["baseline"]
    lines.append(line.removesuffix("; "))
    lines.append(
        f"CPU: /proc/stat of the whole machine until it is quiet again, less the idle machine's "
        f"{idle['net_ms_per_s']:.1f} ms/s (deviation {idle['deviation_ms_per_s']:.1f}) "
        f"and other people's processes; at most {document['settings']['parallel']} commands or calls at once."
    )
    absent: dict[str, list[str]] = {}
    for peer, reason in document["skipped"].items():
        absent.setdefault(reason[:120], []).append(peer)
    lines += [f"Not measured: {', '.join(names)} ({reason})" for reason, names in absent.items()]
    return lines


def _text(x: float, y: float, words: str, size: float, fill: str, weight: str = "", anchor: str = "") -> str:
    more = f' font-weight="{weight}"' if weight == "bold" else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}"{more}>{escape(words)}</text>'


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"/>'
