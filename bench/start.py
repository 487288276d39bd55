"""Concurrent starts: asyncrt against crun, runc, podman, containerd and docker, in one run, in rotated order.

    python bench/start.py                      100, 300 and 1000 containers, three rounds each (an hour)
    python bench/start.py --quick              30 containers, one round: a smoke check
    python bench/start.py --counts 300 --peers asyncrt,containerd,docker --rounds 5

Writes start.json and start.svg into --out. Needs root; `bench/install-peers.sh` installs the peers (Debian
12). What is measured, and how, is said in `bench/measure.py` and `bench/turn.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import chart, keeper, machine, measure, report, site, turn  # noqa: E402
from bench.peers.asyncrt import Asyncrt  # noqa: E402
from bench.peers.containerd import Containerd  # noqa: E402
from bench.peers.docker import Docker  # noqa: E402
from bench.peers.docker_api import DockerApi  # noqa: E402
from bench.peers.oci import OciRuntime  # noqa: E402
from bench.peers.peer import Peer, Site  # noqa: E402
from bench.peers.podman import Podman  # noqa: E402
from bench.process import BenchError  # noqa: E402

_NAMES = ("asyncrt", "asyncrt single", "crun", "runc", "podman", "containerd", "docker", "docker API")


def main() -> int:
    """Parse, then run under the keeper. Exit codes: 0 done, 1 not begun or --check failed, 130 broken off."""
    options = _parse()
    try:
        machine.require_root()
        options.out.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="asyncrt-bench-", dir=options.work))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    parent = f"/asyncrt-bench-{os.getpid()}"
    keeper_pid = os.getpid()
    return keeper.keep(work, parent, lambda: _bench(options, work, parent, keeper_pid))


def _bench(options: argparse.Namespace, work: Path, cgroup_parent: str, keeper_pid: int) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        ground = site.prepare(work, cgroup_parent, options.asyncrt, options.parallel)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    peers, skipped = _present(options, _peers(ground, options.asyncrt_mode))
    document: dict[str, Any] = {
        "schema": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.facts(),
        "settings": {
            "counts": options.counts, "rounds": options.rounds, "complete": options.complete,
            "parallel": options.parallel, "asyncrt_mode": options.asyncrt_mode,
        },
        "peers": {peer.name: {"version": peer.version(), "driven": peer.driven} for peer in peers},
        "skipped": skipped,
        "turns": [],
    }  # fmt: skip
    code = 0
    try:
        _say(f"watching the idle machine for {options.idle:.0f} s")
        idle = measure.Meter(keeper_pid).baseline(options.idle)
        document["baseline"] = idle.as_json()
        _rounds(options, peers, document, idle, keeper_pid)
    except KeyboardInterrupt:
        document["broken_off"] = True
        code = 130
    summary = report.summarize(document["turns"])
    anchors = report.anchors(summary)
    document |= {
        "summary": summary,
        "completions": report.completions(document["turns"]),
        "ratios": report.ratios(summary),
        "anchors": [anchor.as_json() for anchor in anchors],
    }
    _write(options, document, summary)
    failed = any(anchor.passed is False and not anchor.name.startswith("goal") for anchor in anchors)
    ours = [rows.get(report.OURS, {}) for rows in summary.values()]
    failed |= any(not row.get("rounds_good") or bool(row["rounds_failed"]) for row in ours) or not ours
    return code or (1 if options.check and failed else 0)


def _peers(ground: Site, mode: str) -> list[Peer]:
    ours: list[Peer] = [Asyncrt(ground, "batch" if mode == "both" else mode)]
    if mode == "both":
        ours.append(Asyncrt(ground, "single", "asyncrt single"))
    others = [OciRuntime(ground, "crun"), OciRuntime(ground, "runc"), Podman(ground), Containerd(ground)]
    return [*ours, *others, Docker(ground), DockerApi(ground)]


def _present(options: argparse.Namespace, peers: list[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can take part, and why the others cannot."""
    skipped: dict[str, str] = {}
    for peer in peers:
        reason = peer.missing()
        if options.peers and peer.name not in options.peers:
            reason = "not asked for"
        if reason is None:
            try:
                peer.version()
            except BenchError as error:
                reason = str(error)
        if reason is not None:
            skipped[peer.name] = reason
            _say(f"skipping {peer.name}: {reason}")
    return [peer for peer in peers if peer.name not in skipped], skipped


def _rounds(
    options: argparse.Namespace,
    peers: list[Peer],
    document: dict[str, Any],
    idle: measure.Baseline,
    keeper_pid: int,
) -> None:
    """Each round takes every peer once, and each round begins with another one."""
    total, at = len(options.counts) * options.rounds * len(peers), 0
    for count in options.counts:
        for number in range(options.rounds):
            shift = number % max(1, len(peers))
            for peer in peers[shift:] + peers[:shift]:
                at += 1
                if peer.name in document["skipped"]:
                    continue
                _say(f"[{at}/{total}] {count} containers, round {number + 1}/{options.rounds}: {peer.name}")
                complete = options.complete if count == options.counts[0] else 0
                result = turn.take(peer, turn.Order(peer.name, count, number + 1, complete), idle, keeper_pid)
                first = not any(earlier["peer"] == peer.name for earlier in document["turns"])
                if first and not result["ok"] and result["error"].startswith("up:"):
                    document["skipped"][peer.name] = result["error"]
                    _say(f"skipping {peer.name}: {result['error']}")
                    continue
                document["turns"].append(result)
                _say(f"    {result['start']['rate']:.1f}/s" if result["ok"] else f"    failed: {result['error']}")


def _write(options: argparse.Namespace, document: dict[str, Any], summary: dict[int, dict[str, report.Row]]) -> None:
    text = json.dumps(document, indent=1)
    (options.out / "start.json").write_text(text + "\n")
    if any(row.get("start_rate") for rows in summary.values() for row in rows.values()):
        (options.out / "start.svg").write_text(chart.draw(document, summary))
    print(text if options.format == "json" else report.table(document, summary))
    _say(f"wrote {options.out}/start.json and start.svg")


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"bench: {text}", file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/start.py",
        description="Concurrent container starts: asyncrt against the engines of Debian.",
    )
    add = parser.add_argument
    add("--counts", type=_positive_list, default=[100, 300, 1000], help="containers at once (100,300,1000)")
    add("--rounds", type=_positive, default=3, help="rounds per count (3)")
    add(
        "--complete",
        type=int,
        default=100,
        help="containers of `true` run to completion, with the first count (100)",
    )
    add("--peers", type=_peer_list, help="only these, by name, e.g. asyncrt,crun,docker")
    add(
        "--parallel",
        type=_positive,
        default=4 * len(os.sched_getaffinity(0)),
        help="commands at once (4 per CPU)",
    )
    add("--idle", type=float, default=5.0, help="seconds of idle baseline (5)")
    add("--asyncrt", metavar="PATH", help="the asyncrt program (default: beside the interpreter)")
    add(
        "--asyncrt-mode",
        choices=("batch", "single", "both"),
        default="batch",
        help="--count N, or N commands",
    )
    add("--quick", action="store_true", help="30 containers, one round")
    add("--check", action="store_true", help="exit 1 when an anchor or a round of asyncrt fails")
    add("--format", choices=("table", "json"), default="table", help="what goes to stdout")
    add("--out", type=Path, default=Path(__file__).resolve().parent / "results", help="folder of the results")
    add("--work", type=Path, default=Path("/var/tmp"), help="where the run's own folder is made; not a tmpfs")
    options = parser.parse_args()
    if options.quick:
        options.counts, options.rounds, options.complete = [30], 1, 30
    return options


def _peer_list(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in _NAMES]:
        raise argparse.ArgumentTypeError(f"no peer named {unknown[0]!r}; there are: {', '.join(_NAMES)}")
    return names


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive_list(text: str) -> list[int]:
    return sorted({_positive(part) for part in text.split(",")})


if __name__ == "__main__":
    sys.exit(main())
