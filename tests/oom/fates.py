"""What containers of a crowd do by their number, and what records and events have to say of each.

ids = begin(engine, image, count)      # `run -d --count`
wrong = judge(engine, ids, end(engine, ids))
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.engine import Engine
from tests.patience import until

LIMIT = "16m"
EATS = "tail /dev/zero 2>/dev/null"
READY = "echo ready; read -r line; exit 5"
# More than the limit, in pages that the kernel takes back; a tmpfs, as in the virtual machine, gives none back.
MOUNTS = Path("/proc/self/mountinfo").read_text().splitlines()
IN_MEMORY = any(line.split()[4] == "/tmp" and " - tmpfs " in line for line in MOUNTS)
FILLS = f"dd if=/dev/zero of=/filled bs=1M count={8 if IN_MEMORY else 20} 2>/dev/null; rm /filled"


class Fate(NamedTuple):
    """`short`: the kernel killed in it for want of memory. `outside`: it waits for our SIGKILL."""

    script: str
    code: int
    short: bool
    outside: bool = False


FATES = (
    Fate(f"exec {EATS}", 137, True),
    Fate(READY, 137, False, True),
    Fate(f"{EATS}; exit 3", 3, True),
    Fate("sleep 600 & kill -9 $!; wait $!; exit", 137, False),
    Fate(f"{EATS} & {EATS} & {EATS} & wait; exit 4", 4, True),
    Fate(f"{FILLS}; {READY}", 137, False, True),
    Fate(f"{EATS}; exit 137", 137, True),
    Fate("exit 137", 137, False),
)
SCRIPT = "\n".join(
    [f"case $(( ASYNCRT_INDEX % {len(FATES)} )) in"]
    + [f"{number}) {fate.script};;" for number, fate in enumerate(FATES)]
    + ["esac"]
)


def fate_of(index: int) -> Fate:
    return FATES[index % len(FATES)]


def begin(engine: Engine, image: str, count: int) -> list[str]:
    """Their ids by index."""
    command = ("run", "-d", "-i", "-m", LIMIT, "--count", str(count), image, "sh", "-c", SCRIPT)
    ids = engine.cli(*command, check=True, timeout=60 + count).stdout.split()
    by_index = {record["index"]: record["id"] for record in records(engine, ids)}
    return [by_index[index] for index in range(count)]


def end(engine: Engine, ids: Sequence[str]) -> list[int]:
    """Kill those that wait for it, and wait for all; their exit codes."""
    waiting = [id for index, id in enumerate(ids) if fate_of(index).outside]
    for id in waiting:
        log = engine.root / "containers" / id / "stdout"
        until(log.exists, f"{id} waits for its end", 30 + len(ids))
    for group in groups(waiting):
        engine.cli("kill", "--signal", "KILL", *group, check=True)
    codes: list[int] = []
    for group in groups(ids):
        codes += [int(line) for line in engine.cli("wait", *group, check=True, timeout=60 + len(ids)).stdout.split()]
    return codes


def judge(engine: Engine, ids: Sequence[str], codes: Sequence[int], since: int = 0) -> list[str]:
    """A line for each container of which anything wrong was told; `since` is the event before them."""
    told = events(engine, since)
    found = records(engine, ids)
    return [
        f"container {record['index']}: {fault}; {record['exit']} {[event['action'] for event in told[record['id']]]}"
        for record, code in zip(found, codes, strict=True)
        for fault in _faults(record, code, told[record["id"]])
    ]


def _faults(record: dict[str, Any], code: int, told: Sequence[dict[str, Any]]) -> Iterator[str]:
    fate, exit = fate_of(record["index"]), record["exit"]
    if code != fate.code or exit["code"] != fate.code:
        yield f"ended with {code}, not {fate.code}"
    if (exit["oom_kills"] > 0) is not fate.short:
        yield "not known as short of memory" if fate.short else "called short of memory"
    if exit["oom_cgroup"].endswith(record["id"]) is not fate.short:
        yield f'"{exit["oom_cgroup"]}" was to blame'
    actions = [event["action"] for event in told]
    if ("oom" in actions) is not fate.short:
        yield "no oom event" if fate.short else "an oom event"
    if "oom" in actions:
        if len(actions) - 1 - actions[::-1].index("oom") > actions.index("die"):
            yield "its end was told before an oom"
        ooms = [event["attributes"] for event in told if event["action"] == "oom"]
        if sum(one["kills"] for one in ooms) != exit["oom_kills"]:
            yield f"{[one['kills'] for one in ooms]} kills were told"
        if not all(one["cgroup"].endswith(record["id"]) for one in ooms):
            yield "an event blames another cgroup"


def records(engine: Engine, ids: Sequence[str]) -> list[dict[str, Any]]:
    """In their order."""
    found: list[dict[str, Any]] = []
    for group in groups(ids):
        found += json.loads(engine.cli("inspect", *group, check=True).stdout)
    return found


def events(engine: Engine, since: int = 0) -> dict[str, list[dict[str, Any]]]:
    """By container, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    command = ("events", "--since-seq", str(since), "--no-follow", "--format", "json")
    for line in engine.cli(*command, check=True).stdout.splitlines():
        event = json.loads(line)
        found.setdefault(event["id"], []).append(event)
    return found


def groups(ids: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    """What a command line holds."""
    return (ids[first : first + size] for first in range(0, len(ids), size))
