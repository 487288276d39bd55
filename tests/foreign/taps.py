"""Test results in TAP, as JSON and as tables:

    taps.py collect FOLDER RUNTIME SUITE   FOLDER/*.tap to FOLDER/results.json
    taps.py table FOLDER                   counts per file
    taps.py failures FOLDER                each case that failed, with the last words of its output
    taps.py compare FOLDER FOLDER          counts beside each other, and every case whose verdict differs
    taps.py reasons FOLDER                 failures and skips with their reason, for docs; 1 if one has none

Reads what bats and crun's tests write (TAP 13, with directives, times and carriage returns of a terminal).
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # as a script it knows its own folder alone
from tests.foreign import reasons

LINE = re.compile(r"(?P<bad>not )?ok (?P<number>\d+)\s*-?\s*(?P<rest>.*)$")
PLAN = re.compile(r"1\.\.(\d+)")
SKIP = re.compile(r"\s#\s*skip\b:?\s*(?P<reason>.*)$", re.IGNORECASE)
TIME = re.compile(r"\s#\s*(?P<note>[0-9.]+s|timeout after .*|in \d+ ms)\s*$")
STATES = ("pass", "fail", "skip", "lost")
KEPT_LINES = 40

Cases = dict[str, dict[str, str]]


def parse(lines: Iterable[str]) -> Cases:
    """Name -> {state, note}. A planned case without a verdict is `lost`."""
    cases: Cases = {}
    planned = 0
    name = ""
    for raw in lines:
        line = raw.rstrip("\r\n")
        if plan := PLAN.fullmatch(line):
            planned = max(planned, int(plan[1]))
        elif match := LINE.match(line):
            name, state, note = _verdict(match)
            if name in cases:
                name = f"{name} ({match['number']})"
            cases[name] = {"state": state, "note": note}
        elif line.startswith("#") and cases and cases[name]["state"] == "fail":
            cases[name]["note"] = _last(cases[name]["note"], line[1:].strip())
    for number in range(len(cases) + 1, planned + 1):
        cases[f"(case {number})"] = {"state": "lost", "note": "planned, but the file ended before it"}
    return cases


def _verdict(match: re.Match[str]) -> tuple[str, str, str]:
    rest, note = match["rest"], ""
    if timed := TIME.search(rest):
        rest = rest[: timed.start()]
        note = timed["note"] if timed["note"].startswith("timeout") else ""
    if skipped := SKIP.search(rest) or re.search(r"#SKIP(?P<reason>.*)$", rest):
        return rest[: skipped.start()].strip(), "skip", skipped["reason"].strip()
    return rest.strip(), "fail" if match["bad"] else "pass", note


def _last(note: str, line: str) -> str:
    return "\n".join([*note.split("\n"), line][-KEPT_LINES:]).strip()


def collect(folder: Path, runtime: str, suite: str) -> None:
    """Writes results.json of all TAP files of a run."""
    files = {path.stem: parse(path.read_text(errors="replace").splitlines()) for path in sorted(folder.glob("*.tap"))}
    document = {"runtime": runtime, "suite": Path(suite).name, "files": files}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The results of a run."""
    document: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return document


def counts(cases: Cases) -> Counter[str]:
    """How many of each state."""
    return Counter(case["state"] for case in cases.values())


def table(document: dict[str, Any]) -> Iterator[str]:
    """A line per file and one for all."""
    yield f"{document['suite']} over {document['runtime']}"
    yield f"{'':32} " + " ".join(f"{state:>5}" for state in STATES)
    total: Counter[str] = Counter()
    for file, cases in document["files"].items():
        counted = counts(cases)
        total += counted
        yield f"{file:32} " + " ".join(f"{counted[state] or '':>5}" for state in STATES)
    yield f"{'all':32} " + " ".join(f"{total[state]:>5}" for state in STATES)


def failures(document: dict[str, Any]) -> Iterator[str]:
    """Each case that failed or was lost, and what it said."""
    for file, cases in document["files"].items():
        for name, case in cases.items():
            if case["state"] in ("fail", "lost"):
                yield f"{file}: {name}"
                yield from (f"    {line}" for line in case["note"].split("\n") if line)


def compare(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    """Counts of two runs, then the cases on which they disagree."""
    sums = []
    for document in (first, second):
        total: Counter[str] = Counter()
        for cases in document["files"].values():
            total += counts(cases)
        sums.append(total)
        said = ", ".join(f"{total[state]} {state}" for state in STATES)
        yield f"{document['suite']} over {document['runtime']}: {said}"
    for file in sorted({*first["files"], *second["files"]}):
        here, there = first["files"].get(file, {}), second["files"].get(file, {})
        for name in [*here, *(name for name in there if name not in here)]:
            states = [run.get(name, {}).get("state", "absent") for run in (here, there)]
            if states[0] != states[1]:
                yield f"{states[0]:>6} -> {states[1]:6} {file}: {name}"


def explained(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(case, state, reason) of all that did not pass; no reason is an empty one. A skip brings its own."""
    found = []
    for file, cases in document["files"].items():
        for name, case in cases.items():
            if case["state"] != "pass":
                known = reasons.reason(document["suite"], f"{file}: {name}")
                own = (case["note"] or "the suite does not say") if case["state"] == "skip" else ""
                found.append((f"{file}: {name}", case["state"], known or own.split("\n")[0]))
    return found


def main(words: list[str]) -> int:
    """The command line; 2 for words that it does not know."""
    match words:
        case ["collect", folder, runtime, suite]:
            collect(Path(folder), runtime, suite)
        case ["table", folder]:
            print(*table(read(Path(folder))), sep="\n")
        case ["failures", folder]:
            print(*failures(read(Path(folder))), sep="\n")
        case ["compare", first, second]:
            print(*compare(read(Path(first)), read(Path(second))), sep="\n")
        case ["reasons", folder]:
            rows = explained(read(Path(folder)))
            print(*(f"| {case} | {state} | {why or 'UNEXPLAINED'} |" for case, state, why in rows), sep="\n")
            return int(any(not why for _, _, why in rows))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
