"""Who was killed for want of memory is told, nobody else is, and the event comes before the end."""

import json
import os
import signal
from typing import Any

import pytest

from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

EACH = 10
EATS = "tail /dev/zero"
# What a container does by its number, its exit code, and whether it was short of memory.
FATES: list[tuple[str, int, bool]] = [
    (f"exec {EATS}", 137, True),
    (f"{EATS} 2>/dev/null; exit 3", 3, True),
    (f"{EATS} 2>/dev/null & {EATS} 2>/dev/null & wait; exit 4", 4, True),
    ("exit 137", 137, False),
    ("sleep 600 & kill -9 $!; wait $!; exit", 137, False),
    ("read -r line; exit 5", 137, False),  # killed from outside
]
SCRIPT = "\n".join(
    ["case $(( ASYNCRT_INDEX % " + str(len(FATES)) + " )) in"]
    + [f"{number}) {script};;" for number, (script, _, _) in enumerate(FATES)]
    + ["esac"]
)


def events_of(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """By container, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in engine.cli(
        "events", "--since-seq", "0", "--no-follow", "--format", "json", check=True
    ).stdout.splitlines():
        event = json.loads(line)
        found.setdefault(event["id"], []).append(event)
    return found


@pytest.fixture
def crowd(shared: Engine, image: str) -> list[str]:
    count = str(EACH * len(FATES))
    command = ("run", "-d", "-i", "-m", "16m", "--count", count, image, "sh", "-c", SCRIPT)
    ids = shared.cli(*command, check=True, timeout=120).stdout.split()
    records = json.loads(shared.cli("inspect", *ids, check=True).stdout)
    waiting = [record["id"] for record in records if record["index"] % len(FATES) == len(FATES) - 1]
    assert len(waiting) == EACH
    shared.cli("kill", "--signal", "KILL", *waiting, check=True)
    return ids


def test_every_oom_is_told_and_no_other(shared: Engine, crowd: list[str]) -> None:
    codes = [int(line) for line in shared.cli("wait", *crowd, check=True, timeout=120).stdout.split()]
    events = events_of(shared)
    for number, (id, code) in enumerate(zip(crowd, codes, strict=True)):
        record = shared.inspect(id)
        _, wanted, short = FATES[record["index"] % len(FATES)]
        story = f"container {number} ({record['index']}): {record['exit']} {events[id]}"
        assert code == wanted, story
        assert (record["exit"]["oom_kills"] > 0) is short, story
        assert record["exit"]["oom_cgroup"].endswith(id) is short, story
        actions = [event["action"] for event in events[id]]
        assert ("oom" in actions) is short, story
        if short:
            assert actions.index("oom") < actions.index("die"), story
            told = sum(event["attributes"]["kills"] for event in events[id] if event["action"] == "oom")
            assert told == record["exit"]["oom_kills"], story


def test_told_while_it_runs(shared: Engine, image: str) -> None:
    script = f"{EATS} 2>/dev/null; read -r line"
    id = shared.cli("run", "-d", "-i", "-m", "16m", image, "sh", "-c", script, check=True).stdout.strip()
    told = until(lambda: [event for event in events_of(shared)[id] if event["action"] == "oom"], "an oom event")
    assert told[0]["attributes"]["cgroup"].endswith(id)
    assert shared.inspect(id)["state"] == "running"


def test_a_supervisor_later_tells_it_once(engine: Engine, image: str) -> None:
    """What was told is not told again, and what happened meanwhile is."""
    script = f"{EATS} 2>/dev/null; until [ -e /go/on ]; do sleep 0.05; done; {EATS} 2>/dev/null; exit 6"
    place = engine.base / "go"
    place.mkdir()
    wish = ("-m", "16m", "-v", f"{place}:/go", image, "sh", "-c", script)
    id = engine.cli("run", "-d", *wish, check=True).stdout.strip()
    until(lambda: "oom" in [event["action"] for event in events_of(engine)[id]], "the first kill")
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    (place / "on").touch()
    assert engine.cli("wait", id, check=True).stdout == "6\n"
    kills = [event["attributes"]["kills"] for event in events_of(engine)[id] if event["action"] == "oom"]
    assert kills == [1, 1]
    assert engine.inspect(id)["exit"]["oom_kills"] == 2


def test_nothing_is_watched_that_has_ended(engine: Engine, image: str) -> None:
    """No file descriptor of the supervisor outlives the container that it watched."""
    engine.cli("run", "--rm", "-m", "16m", image, "true", check=True)
    supervisor = engine.supervisor_pid()

    def open_fds() -> int:
        return len(os.listdir(f"/proc/{supervisor}/fd"))

    before = open_fds()
    engine.cli("run", "--count", "20", "-d", "-m", "16m", image, "sh", "-c", EATS, check=True)
    engine.cli("rm", "--force", "--all", check=True)
    until(lambda: open_fds() <= before, "as many files are open as before")
