"""Who was killed for want of memory is told, nobody else is, and the event comes before the end."""

import os
import signal

import pytest

from tests.engine import Engine
from tests.oom.fates import EATS, FATES, FILLS, IN_MEMORY, LIMIT, begin, end, events, judge
from tests.patience import until

pytestmark = pytest.mark.root


def test_every_oom_is_told_and_no_other(shared: Engine, image: str) -> None:
    """`just oom` does this with 2000."""
    ids = begin(shared, image, 8 * len(FATES))
    assert judge(shared, ids, end(shared, ids)) == []


def test_told_while_it_runs(shared: Engine, image: str) -> None:
    script = f"{EATS}; read -r line"
    id = shared.cli("run", "-d", "-i", "-m", "16m", image, "sh", "-c", script, check=True).stdout.strip()
    told = until(lambda: [event for event in events(shared)[id] if event["action"] == "oom"], "an oom event")
    assert told[0]["attributes"]["cgroup"].endswith(id)
    assert shared.inspect(id)["state"] == "running"


def test_a_supervisor_later_tells_it_once(engine: Engine, image: str) -> None:
    """What was told is not told again, and what happened meanwhile is."""
    script = f"{EATS}; until [ -e /go/on ]; do sleep 0.05; done; {EATS}; exit 6"
    place = engine.base / "go"
    place.mkdir()
    wish = ("-m", "16m", "-v", f"{place}:/go", image, "sh", "-c", script)
    id = engine.cli("run", "-d", *wish, check=True).stdout.strip()
    until(lambda: "oom" in [event["action"] for event in events(engine)[id]], "the first kill")
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    (place / "on").touch()
    assert engine.cli("wait", id, check=True).stdout == "6\n"
    kills = [event["attributes"]["kills"] for event in events(engine)[id] if event["action"] == "oom"]
    assert kills == [1, 1]
    assert engine.inspect(id)["exit"]["oom_kills"] == 2


def test_a_supervisor_later_tells_failed_forks_once(engine: Engine, image: str) -> None:
    """The hits of each event are those since the one before, whoever told that."""
    fails = "(for i in 1 2 3 4; do sleep 1 & done; wait) 2>/dev/null; sleep 2"
    script = f"{fails}; until [ -e /go/on ]; do sleep 0.05; done; {fails}; sleep 600"
    place = engine.base / "go"
    place.mkdir()
    wish = ("--pids-limit", "3", "-v", f"{place}:/go", image, "sh", "-c", script)
    id = engine.cli("run", "-d", *wish, check=True).stdout.strip()

    def told() -> list[dict[str, int]]:
        return [event["attributes"] for event in events(engine)[id] if event["action"] == "pids_max"]

    first = until(told, "forks that failed", 60)[-1]["total"]
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    (place / "on").touch()
    until(lambda: told()[-1]["total"] > first, "those that failed without a supervisor", 60)
    every = told()
    assert sum(event["hits"] for event in every) == every[-1]["total"]


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


def test_hits_are_told_as_they_happen_and_counted_in_the_end(shared: Engine, image: str) -> None:
    """Without a kill: pages that are given back, forks that fail, a quota that runs out."""
    script = f"{FILLS}; (for i in 1 2 3 4 5; do sleep 30 & done) 2>/dev/null; while :; do :; done"
    wish = ("-m", LIMIT, "--pids-limit", "3", "--cpus", "0.2", image, "sh", "-c", script)
    id = shared.cli("run", "-d", *wish, check=True).stdout.strip()

    def told() -> dict[str, int]:
        """By kind, how often in all."""
        return {event["action"]: event["attributes"].get("total", 0) for event in events(shared)[id]}

    memory = set() if IN_MEMORY else {"memory_max"}
    until(lambda: memory | {"pids_max", "cpu_throttled"} <= told().keys(), "a hit of each limit", 60)
    assert "oom" not in told()
    shared.cli("kill", id, check=True)
    shared.cli("wait", id, check=True)
    ended = shared.inspect(id)["exit"]
    assert ended["oom_killed"] is False
    assert ended["oom_cgroup"] == ""
    assert ended["memory_hits"] >= told().get("memory_max", 0) >= len(memory)
    assert ended["fork_failures"] >= told()["pids_max"] > 0
    assert ended["throttled_ns"] > 0
    assert ended["memory_peak"] > 7 << 20
