"""A large image pulled and unpacked: asyncrt beside containerd, docker and podman, from one registry on loopback.

    python bench/pull.py --image DIR                three rounds, in rotated order; minutes
    python bench/pull.py --image DIR --rounds 1 --peers asyncrt,containerd
    python bench/pull.py --image DIR --prepare      make the image and stop (the only part that needs a network)

The image (bench/large.py: Debian's packages, ten layers, 2 GiB) is made once in DIR and pushed to a docker-registry
in the bench's own namespaces. Every turn begins with an engine that has nothing, a daemon that runs, and a disk that
has written what the turn before left; the clock runs from the command `pull IMAGE` until it returns, which is when the
engine can start containers of it. Then a container runs `true` in it, so that a pull that did nothing does not count.

CPU is the whole machine's, the registry's included alike for all, until it is quiet again (bench/measure.py). Memory is
the highest sum of the anonymous memory (RssAnon) of the engine's processes, looked at ten times a second.
Writes pull.json into --out. Compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

# As a script its own folder heads the path; the package's parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import large, machine, measure, site  # noqa: E402
from bench.census import descendants  # noqa: E402
from bench.peers.peer import Peer, Site  # noqa: E402
from bench.process import BenchError, Daemon, find_tool  # noqa: E402

PATIENCE = 300.0  # s for whatever one peer does
PORT = 5000
NAME = f"127.0.0.1:{PORT}/bench/large:1"
PEERS = ["asyncrt", "containerd", "docker", "podman"]
GOALS = {"containerd": 0.7, "docker": 0.5}  # of their time


def main() -> int:
    parser = site.options("pull", "a large image pulled and unpacked, beside containerd, docker and podman")
    parser.add_argument("--image", type=Path, required=True, metavar="DIR", help="where the image is, or is made")
    parser.add_argument("--prepare", action="store_true", help="make the image, if it is not there, and stop")
    parser.add_argument("--check", action="store_true", help="exit 1 if a goal is missed or a turn failed")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results", help="of pull.json")
    given = parser.parse_args()
    try:
        layout = large.make(given.image)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if given.prepare:
        print(json.dumps(large.shape(layout)))
        return 0
    given.keeper = os.getpid()
    return site.run(given, lambda ground: _bench(ground, layout, given))


def _bench(ground: Site, layout: Path, given: argparse.Namespace) -> int:
    machine.raise_loopback()
    registry = _serve(ground, layout)
    peers = site.present(ground, given.peers, PEERS)
    versions = {peer.name: peer.version() for peer in peers}
    meter = measure.Meter(given.keeper)
    idle = meter.baseline(3.0)
    turns: list[dict[str, Any]] = []
    try:
        for number in range(given.rounds):
            shift = number % len(peers)
            for peer in peers[shift:] + peers[:shift]:
                turn = _turn(peer, meter, idle, given.keeper)
                turns.append({"peer": peer.name, "round": number + 1, **turn})
                print(f"bench: round {number + 1}: {_words(turns[-1])}", file=sys.stderr, flush=True)
    finally:
        registry.stop(timeout=10)
    summary = _summary(turns)
    document = {
        "schema": 1,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.facts(),
        "image": large.shape(layout),
        "peers": versions,
        "baseline": idle.as_json(),
        "turns": turns,
        "summary": summary,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "pull.json").write_text(json.dumps(document, indent=1) + "\n")
    print(_table(summary))
    return 1 if given.check and not _good(turns, summary) else 0


def _serve(ground: Site, layout: Path) -> Daemon:
    """docker-registry with the image in it."""
    for tool in ("docker-registry", "skopeo"):
        if find_tool(tool) is None:
            raise BenchError(f"serve the image: {tool} is not installed")
    folder = ground.work / "registry"
    folder.mkdir()
    config = folder / "config.json"  # YAML takes JSON
    config.write_text(
        json.dumps(
            {
                "version": "0.1",
                "log": {"level": "warn", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
                "http": {"addr": f"127.0.0.1:{PORT}"},
            }
        )
    )
    argv = [str(find_tool("docker-registry")), "serve", str(config)]
    registry = Daemon(argv, env={**ground.env, "OTEL_TRACES_EXPORTER": "none"}, log=folder / "log")
    registry.until(lambda: _listens(), timeout=30)
    words = ["copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{NAME}"]
    argv = [str(find_tool("skopeo")), "--insecure-policy", *words]
    done = subprocess.run(argv, env=dict(ground.env), capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise BenchError(f"push the image: {done.stderr.strip()[-400:]}")
    return registry


def _listens() -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def _turn(peer: Peer, meter: measure.Meter, idle: measure.Baseline, keeper: int) -> dict[str, Any]:
    """One pull by an engine that has nothing; never raises BenchError."""
    result: dict[str, Any] = {"ok": False}
    try:
        peer.up()
        os.sync()
        meter.settle(idle)
        with _Watch(keeper) as watch:
            phase = meter.phase(1, idle, lambda: peer.pull(NAME, time.monotonic() + PATIENCE), lambda: True, 1.0)
        result |= {"wall_s": phase.wall_s, "cpu_s": phase.cpu_ms / 1000, "foreign_share": phase.foreign_share}
        result["peak_mib"] = watch.peak_kib / 1024
        peer.true_in(NAME, time.monotonic() + PATIENCE)
        result["ok"] = True
    except (BenchError, OSError) as error:
        result["error"] = str(error)
    finally:
        try:
            peer.down()
        except (BenchError, OSError) as error:
            result |= {"ok": False, "error": f"down: {error}"}
        for point in reversed(machine.mounts_below(peer.folder)):
            machine.umount(point)
        peer.forget()
        shutil.rmtree(peer.folder, ignore_errors=True)
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}


class _Watch:
    """The highest sum of RssAnon of all that the keeper has below it, but us and the registry."""

    def __init__(self, keeper: int) -> None:
        self._keeper = keeper
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.peak_kib = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            pids = [one.pid for one in descendants(self._keeper) if one.name not in ("docker-registry", "registry")]
            self.peak_kib = max(self.peak_kib, sum(_anonymous(pid) for pid in pids if pid != os.getpid()))


def _anonymous(pid: int) -> int:
    """KiB; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def _summary(turns: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Medians of the good turns, and asyncrt's time in parts of each peer's."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(turn["peer"] for turn in turns):
        good = [turn for turn in turns if turn["peer"] == name and turn["ok"]]
        medians = {
            key: round(statistics.median(turn[key] for turn in good), 3) if good else None
            for key in ("wall_s", "cpu_s", "peak_mib")
        }
        failed = sum(turn["peer"] == name for turn in turns) - len(good)
        found[name] = {**medians, "rounds": len(good), "failed": failed}
    ours = found.get("asyncrt", {}).get("wall_s")
    for name, row in found.items():
        if ours and row["wall_s"] and name != "asyncrt":
            row["asyncrt_in_parts"] = round(ours / row["wall_s"], 3)
            row["goal"] = GOALS.get(name)
    return found


def _good(turns: list[dict[str, Any]], summary: dict[str, dict[str, Any]]) -> bool:
    rows = summary.values()
    met = all(row["asyncrt_in_parts"] <= row["goal"] for row in rows if row.get("goal"))
    return met and all(turn["ok"] for turn in turns)


def _words(turn: dict[str, Any]) -> str:
    if not turn["ok"]:
        return f"{turn['peer']} failed: {turn['error']}"
    return f"{turn['peer']} {turn['wall_s']:.2f} s, CPU {turn['cpu_s']:.2f} s, peak {turn['peak_mib']:.0f} MiB"


def _table(summary: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'':<12} {'wall':>9} {'CPU':>9} {'peak':>9} {'asyncrt in parts':>18}"]
    for name, row in summary.items():
        if row["wall_s"] is None:
            lines.append(f"{name:<12} failed")
            continue
        part = f"{row['asyncrt_in_parts']:.2f}" if "asyncrt_in_parts" in row else ""
        goal = f" (goal {row['goal']})" if row.get("goal") else ""
        lines.append(
            f"{name:<12} {row['wall_s']:>7.2f} s {row['cpu_s']:>7.2f} s {row['peak_mib']:>5.0f} MiB {part:>12}{goal}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
