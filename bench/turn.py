"""One peer's turn in a round: up, warm, start, memory, remove, complete, down, and what it left behind.

Every peer goes through the same code; what differs is in `bench.peers`. A failure ends the turn, is kept in
its result with its reason, and never passes for a good round.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

from bench import image
from bench.census import Memory, Process, containers, descendants, helpers, memory
from bench.keeper import end_descendants
from bench.machine import cgroup_paths, cgroups_below, mounts_below, remove_cgroups, umount
from bench.measure import Baseline, Meter
from bench.peers.peer import Peer
from bench.process import BenchError

_WARM = 2  # containers before the clock runs: page cache, and what a daemon sets up for its first one
_NOISY = 0.05  # of the machine, taken by others: the wall clock is not to be trusted
_PATIENCE = 15.0  # s until what a peer reported must be true


@dataclass(frozen=True, slots=True)
class Order:
    """What a turn is asked to do. `complete` is the number of run-to-completion containers, 0 for none."""

    peer: str
    count: int
    round: int
    complete: int


def take(peer: Peer, order: Order, idle: Baseline, keeper: int) -> dict[str, Any]:
    """Take one turn; never raises BenchError or OSError. The result has `ok` and, if false, `error`."""
    result: dict[str, Any] = {"peer": order.peer, "count": order.count, "round": order.round, "ok": False}
    began = time.monotonic()
    noted: list[str] = []
    try:
        _measure(peer, order, idle, keeper, result, noted)
        result["ok"] = True
    except (BenchError, OSError) as error:
        result["error"] = f"{result.pop('step', 'up')}: {error}"
    finally:
        result.pop("step", None)
        result["left_behind"] = _clean(peer, keeper, noted)
        if not result["ok"]:
            peer.forget()
    result["turn_s"] = round(time.monotonic() - began, 1)
    return result


def limit(count: int) -> float:
    """Seconds that `count` containers may take: six times the slowest engine's need, and a minute."""
    return 60 + 0.75 * count


def _measure(peer: Peer, order: Order, idle: Baseline, keeper: int, result: dict[str, Any], noted: list[str]) -> None:
    peer.up()
    result["step"] = "warm-up"
    peer.start(_WARM, time.monotonic() + limit(_WARM))
    peer.remove(time.monotonic() + limit(_WARM))
    meter = Meter(keeper)
    meter.settle(idle)

    def running() -> list[Process]:
        return containers(descendants(keeper), image.SLEEP)

    count, patience = order.count, time.monotonic() + limit(order.count)
    result["step"] = "start"
    started = meter.phase(count, idle, lambda: peer.start(count, patience), lambda: len(running()) == count, _PATIENCE)
    result["start"] = started.as_json()
    result["noisy"] = started.foreign_share > _NOISY

    result["step"] = "memory"
    inherited = {*cgroup_paths(os.getpid())}
    noted += sorted({path for init in running() for path in cgroup_paths(init.pid)} - inherited)
    result["memory"] = _memory(peer, keeper)

    result["step"] = "remove"
    patience = time.monotonic() + limit(count)
    removed = meter.phase(count, idle, lambda: peer.remove(patience), lambda: not running(), _PATIENCE)
    result["remove"] = removed.as_json()

    if order.complete:
        result["step"] = "complete"
        patience = time.monotonic() + limit(order.complete)
        completed = meter.phase(
            order.complete, idle, lambda: peer.complete(order.complete, patience), lambda: True, _PATIENCE
        )
        result["complete"] = completed.as_json()


def _memory(peer: Peer, keeper: int) -> dict[str, Any]:
    """KiB: medians over the helpers (shim, conmon), and the sum over daemons. No helper is 0, not unknown."""
    processes = [process for process in descendants(keeper) if process.pid != os.getpid()]
    inits = containers(processes, image.SLEEP)
    beside = helpers(inits, processes)
    taken = {process.pid for process in (*inits, *beside)}
    of_helpers = _read(beside)
    of_daemons = _read([process for process in processes if process.pid not in taken])
    found: dict[str, Any] = {
        "helpers": len(beside),
        "helper_name": beside[0].name if beside else None,
        "helper_private_kib": statistics.median([m.private for m in of_helpers]) if of_helpers else 0,
        "helper_pss_kib": statistics.median([m.pss for m in of_helpers]) if of_helpers else 0,
        "daemons": len(of_daemons),
        "daemons_pss_kib": sum(m.pss for m in of_daemons),
    }
    told = peer.shims()
    if told is not None:
        found["shims_as_inspect_tells"] = sorted(told) == sorted(process.pid for process in beside)
    return found


def _read(processes: list[Process]) -> list[Memory]:
    return [found for process in processes if (found := memory(process.pid)) is not None]


def _clean(peer: Peer, keeper: int, noted: list[str]) -> list[str]:
    """Put the peer away, then find, name and remove what it left; returns the names.

    Cgroups outside of the bench's own parent (`noted`: where containers were) are named, never touched.
    """
    problems: list[str] = []
    try:
        if peer.live:
            peer.remove(time.monotonic() + limit(len(peer.live)))
    except (BenchError, OSError) as error:
        problems.append(f"clean-up: {error}")
    try:
        peer.down()
    except (BenchError, OSError) as error:
        problems.append(f"clean-up: {error}")
    left = _left(keeper)
    patience = time.monotonic() + 5
    while left and time.monotonic() < patience:  # shims end after their daemon has
        time.sleep(0.1)
        left = _left(keeper)
    problems += [f"process {process.name} {process.pid}" for process in left]
    stuck = end_descendants(keeper, frozenset({os.getpid()}))
    problems += [f"process {pid} survives SIGKILL" for pid in stuck]
    mounts = mounts_below(peer.folder)
    problems += [f"mount {point}" for point in mounts]
    for point in reversed(mounts):
        try:
            umount(point)
        except OSError as error:
            problems.append(f"umount {point}: {error.strerror}")
    own = cgroups_below(peer.site.cgroup_parent)
    problems += [f"cgroup {path}" for path in own]
    problems += [f"cgroup {path}" for path in noted if path not in own and os.path.isdir(path)]
    problems += [f"cgroup {path} cannot be removed" for path in remove_cgroups(peer.site.cgroup_parent)]
    return problems


def _left(keeper: int) -> list[Process]:
    return [process for process in descendants(keeper) if process.pid != os.getpid()]
