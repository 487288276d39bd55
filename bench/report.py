"""From turns to a verdict: medians over good rounds, asyncrt's ratios to each peer, anchors, the table."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

OURS = "asyncrt"
DECIDES = 300  # containers: the count at which the anchors are promised

Row = dict[str, float]  # a peer's medians by figure
_FIGURES = {
    "start_rate": ("start", "rate"),
    "start_wall_s": ("start", "wall_s"),
    "start_cpu_ms": ("start", "cpu_ms"),
    "start_cpu_ms_tasks_only": ("start", "cpu_ms_tasks_only"),
    "start_cpu_ms_uncorrected": ("start", "cpu_ms_uncorrected"),
    "remove_rate": ("remove", "rate"),
    "remove_cpu_ms": ("remove", "cpu_ms"),
    "helpers": ("memory", "helpers"),
    "helper_private_kib": ("memory", "helper_private_kib"),
    "helper_pss_kib": ("memory", "helper_pss_kib"),
    "daemons_pss_kib": ("memory", "daemons_pss_kib"),
}
_HEAD = ["started/s", "x", "CPU ms", "x", "removed/s", "CPU ms", "x", "helper KiB", "PSS", "good"]
_COMPLETE = {"complete_rate": ("complete", "rate"), "complete_cpu_ms": ("complete", "cpu_ms")}


@dataclass(frozen=True, slots=True)
class Anchor:
    """A promise in figures: `got` must be at least (or at most) `need`; `passed` is None if not measured."""

    name: str
    count: int
    need: float
    got: float | None
    at_most: bool = False

    @property
    def passed(self) -> bool | None:
        if self.got is None:
            return None
        return self.got <= self.need if self.at_most else self.got >= self.need

    @property
    def verdict(self) -> str:
        return {True: "pass", False: "FAIL", None: "not measured"}[self.passed]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed, "decides": self.count == DECIDES}


def summarize(turns: list[dict[str, Any]]) -> dict[int, dict[str, Row]]:
    """By count, then peer: the medians over good rounds, beside how many were good and how many failed."""
    summary: dict[int, dict[str, Row]] = {}
    for count in sorted({turn["count"] for turn in turns}):
        of_count = [turn for turn in turns if turn["count"] == count]
        summary[count] = {}
        for peer in dict.fromkeys(turn["peer"] for turn in of_count):
            mine = [turn for turn in of_count if turn["peer"] == peer]
            good = [turn for turn in mine if turn["ok"]]
            row: Row = {"rounds_good": len(good), "rounds_failed": len(mine) - len(good)}
            row["rounds_noisy"] = sum(turn["noisy"] for turn in good)
            row["left_behind"] = sum(len(turn["left_behind"]) for turn in mine)
            row |= _medians(good, _FIGURES)
            summary[count][peer] = row
    return summary


def completions(turns: list[dict[str, Any]]) -> dict[str, Row]:
    """By peer: the medians of run-to-completion (`true`)."""
    rows = {}
    for peer in dict.fromkeys(turn["peer"] for turn in turns):
        rows[peer] = _medians([turn for turn in turns if turn["peer"] == peer and turn["ok"]], _COMPLETE)
    return {peer: row for peer, row in rows.items() if row}


def ratios(summary: dict[int, dict[str, Row]], ours: str = OURS) -> dict[int, dict[str, Row]]:
    """How many times quicker than, and how many times cheaper than each peer we are: > 1 favours us."""
    found: dict[int, dict[str, Row]] = {}
    for count, rows in summary.items():
        own = rows.get(ours, {})
        found[count] = {}
        for peer, row in rows.items():
            pairs = {
                "rate": (own.get("start_rate"), row.get("start_rate")),
                "start_cpu": (row.get("start_cpu_ms"), own.get("start_cpu_ms")),
                "remove_cpu": (row.get("remove_cpu_ms"), own.get("remove_cpu_ms")),
            }
            values = {key: round(a / b, 2) for key, (a, b) in pairs.items() if a is not None and b and b > 0}
            if peer != ours and values:
                found[count][peer] = values
    return found


def anchors(summary: dict[int, dict[str, Row]], ours: str = OURS) -> list[Anchor]:
    """The promises, for every count that was measured; the one at `DECIDES` containers counts."""
    compared = ratios(summary, ours)
    found = []
    for count, rows in summary.items():
        for peer, need in (("containerd", 10.0), ("docker", 20.0)):
            got = compared[count].get(peer, {}).get("rate")
            found.append(Anchor(f"start rate >= {need:.0f} x {peer}", count, need, got))
        shim = rows.get(ours, {}).get("helper_private_kib")
        found.append(Anchor("shim private memory <= 1000 KiB (median)", count, 1000, shim, at_most=True))
        goal = compared[count].get("crun", {}).get("rate")
        found.append(Anchor("goal: start rate >= bare crun", count, 1.0, goal))
    return found


def table(document: dict[str, Any], summary: dict[int, dict[str, Row]]) -> str:
    """The figures for a terminal: a block per count, then run-to-completion, anchors, failures, absentees."""
    lines: list[str] = []
    compared = ratios(summary)
    for count, rows in summary.items():
        lines += ["", f"{count} x sleep 600 (medians; x: how many times better asyncrt is)", _line("", _HEAD)]
        for peer, row in rows.items():
            ratio = compared[count].get(peer, {})
            good, failed = row["rounds_good"], row["rounds_failed"]
            started = [
                row.get("start_rate"),
                ratio.get("rate"),
                row.get("start_cpu_ms"),
                ratio.get("start_cpu"),
            ]
            removed = [row.get("remove_rate"), row.get("remove_cpu_ms"), ratio.get("remove_cpu")]
            helper = [_cell(row.get(f"helper_{kind}_kib"), 0) for kind in ("private", "pss")]
            cells = [*map(_cell, started + removed), *helper, f"{good:.0f}/{good + failed:.0f}"]
            lines.append(_line(peer, cells))
    if document["completions"]:
        lines += ["", f"{document['settings']['complete']} x true, run to completion and removed"]
        lines.append(_line("", ["per s", "CPU ms"]))
        for peer, row in document["completions"].items():
            lines.append(_line(peer, [_cell(row.get(figure)) for figure in _COMPLETE]))
    lines += ["", f"anchors (promised at {DECIDES} containers)"]
    for anchor in anchors(summary):
        got = "-" if anchor.got is None else f"{anchor.got:.2f}"
        lines.append(f"  {anchor.verdict:12} {anchor.count:5}  {anchor.name:44} {got:>10}")
    lines += _remarks(document)
    return "\n".join(lines).lstrip("\n")


def _remarks(document: dict[str, Any]) -> list[str]:
    absent: dict[str, list[str]] = {}
    for peer, reason in document["skipped"].items():
        absent.setdefault(reason, []).append(peer)
    found = [f"  skipped  {', '.join(peers)}: {reason}" for reason, peers in absent.items()]
    for turn in document["turns"]:
        where = f"{turn['peer']}, {turn['count']}, round {turn['round']}"
        if not turn["ok"]:
            found.append(f"  failed   {where}: {turn['error']}")
        if turn.get("noisy"):
            found.append(f"  noisy    {where}: {turn['start']['foreign_share']:.0%} of the machine taken by others")
        if turn["left_behind"]:
            some = ", ".join(turn["left_behind"][:2])
            found.append(f"  left     {where}: {len(turn['left_behind'])} things: {some}")
    return ["", "remarks", *found] if found else []


def _medians(turns: list[dict[str, Any]], figures: dict[str, tuple[str, str]]) -> Row:
    row: Row = {}
    for figure, (part, key) in figures.items():
        values = [turn[part][key] for turn in turns if turn.get(part, {}).get(key) is not None]
        if values:
            row[figure] = round(statistics.median(values), 3)
    return row


def _cell(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _line(peer: str, cells: list[str]) -> str:
    return f"{peer:14}" + "".join(f"{cell:>11}" for cell in cells)
