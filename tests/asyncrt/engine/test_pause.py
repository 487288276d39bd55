"""Pause and unpause: what stands still, what goes on, and that nothing stays frozen behind."""

import os
import signal
import time
from pathlib import Path

import pytest

from shimd.linux import cgroups, freezer
from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


def freezer_of(engine: Engine, id: str) -> tuple[int, str]:
    parent = str(engine.json("info")["cgroup_parent"])
    trees = cgroups.hierarchies()
    tree = next((tree for tree in trees if "freezer" in tree.controllers), trees[0])
    return tree.version, f"{tree.mount}{parent}/{id}"


def log_of(engine: Engine, id: str) -> Path:
    return engine.root / "containers" / id / "stdout"


def start(engine: Engine, image: str, *more: str) -> str:
    id = engine.cli("run", "-d", *more, image, "sh", "-c", COUNTS, check=True).stdout.strip()
    until(lambda: log_of(engine, id).exists(), "its first word")
    return id


def moves(engine: Engine, id: str) -> bool:
    before = log_of(engine, id).stat().st_size
    try:
        until(lambda: log_of(engine, id).stat().st_size > before, "another word", 0.5)
    except AssertionError:
        return False
    return True


def test_there_and_back(shared: Engine, image: str) -> None:
    id = start(shared, image)
    assert shared.cli("pause", id, check=True).stdout == f"{id}\n"
    assert not moves(shared, id)
    assert shared.inspect(id)["state"] == "paused"
    assert [one["state"] for one in shared.json("ps")] == ["paused"]
    refused = shared.cli("pause", id)
    assert (refused.returncode, refused.stderr) == (1, f"asyncrt: pause {shared.inspect(id)['name']}: it is paused\n")
    assert "it is paused (asyncrt unpause lets it go on)" in shared.cli("exec", id, "true").stderr
    shared.cli("unpause", id, check=True)
    assert moves(shared, id)
    refused = shared.cli("unpause", id)
    assert refused.returncode == 1
    assert "it is running, not paused" in refused.stderr


def test_of_what_does_not_run(shared: Engine, image: str) -> None:
    id = shared.cli("run", "-d", image, "true", check=True).stdout.strip()
    shared.cli("wait", id, check=True)
    for verb in ("pause", "unpause"):
        refused = shared.cli(verb, id)
        assert refused.returncode == 1
        assert "it is not running (it is stopped)" in refused.stderr


@pytest.mark.parametrize("end", [("kill",), ("stop", "-t", "1"), ("rm", "-f")], ids=["kill", "stop", "rm"])
def test_an_end_while_paused(shared: Engine, image: str, end: tuple[str, ...]) -> None:
    id = start(shared, image)
    shared.cli("pause", id, check=True)
    shared.cli(*end, id, check=True, timeout=20)
    if end[0] != "rm":
        assert shared.cli("wait", id, check=True).stdout == "137\n"


def test_another_signal_waits_for_unpause(shared: Engine, image: str) -> None:
    script = "trap 'exit 9' USR1; echo on; while :; do sleep 0.05; done"
    id = shared.cli("run", "-d", image, "sh", "-c", script, check=True).stdout.strip()
    until(lambda: log_of(shared, id).exists(), "its first word")
    shared.cli("pause", id, check=True)
    shared.cli("kill", "-s", "USR1", id, check=True)
    assert shared.inspect(id)["state"] == "paused"
    shared.cli("unpause", id, check=True)
    assert shared.cli("wait", id, check=True).stdout == "9\n"


def test_it_stays_paused_over_a_restart(engine: Engine, image: str) -> None:
    id = start(engine, image)
    engine.cli("pause", id, check=True)
    until(lambda: engine.inspect(id)["state"] == "paused", "the record")
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    assert engine.inspect(id)["state"] == "paused"
    assert not moves(engine, id)
    engine.cli("unpause", id, check=True)
    assert moves(engine, id)


def test_a_crash_in_the_middle_leaves_nothing_frozen(engine: Engine, image: str) -> None:
    """Frozen, and no record of it: what a supervisor leaves that dies between the two."""
    id = start(engine, image)
    place = freezer_of(engine, id)
    os.kill(engine.supervisor_pid(), signal.SIGKILL)
    freezer.freeze(*place)
    assert engine.inspect(id)["state"] == "running"
    assert not freezer.is_frozen(*place)
    assert moves(engine, id)


def test_a_shim_that_dies_takes_its_paused_container_along(engine: Engine, image: str) -> None:
    id = start(engine, image)
    engine.cli("pause", id, check=True)
    record = engine.inspect(id)
    os.kill(record["shim_pid"], signal.SIGKILL)
    assert engine.cli("wait", id, check=True).stdout == "137\n"
    until(lambda: not watch.alive(record["pid"]), "its end")
    assert engine.inspect(id)["exit"]["lost"]


def test_many_at_once_under_load(engine: Engine, image: str) -> None:
    command = ("run", "-d", "--count", "20", image, "sh", "-c", "while :; do sleep 0.001 & wait; done")
    ids = engine.cli(*command, check=True).stdout.split()
    for _ in range(3):
        engine.cli("pause", *ids, check=True)
        assert all(freezer.is_frozen(*freezer_of(engine, id)) for id in ids[:3])
        engine.cli("unpause", *ids, check=True)
    assert {one["state"] for one in engine.json("ps")} == {"running"}


def frozen(places: dict[str, tuple[int, str]]) -> set[str]:
    return {id for id, place in places.items() if freezer.is_frozen(*place)}


def test_kills_under_load_leave_nothing_frozen(engine: Engine, image: str) -> None:
    """A supervisor that dies at any moment of many pauses: what is frozen afterwards is recorded as paused."""
    command = ("run", "-d", "--count", "8", image, "sh", "-c", "while :; do sleep 0.001 & wait; done")
    ids = engine.cli(*command, check=True).stdout.split()
    places = {id: freezer_of(engine, id) for id in ids}
    for number in range(8):
        verb = "unpause" if number % 4 == 3 else "pause"
        with engine.popen(verb, *ids) as deed:
            supervisor = int((engine.state / "lock").read_text())
            if number % 2:
                until(lambda: deed.poll() is not None or frozen(places), "one of them is frozen")
            else:
                time.sleep(0.02 * number)  # any moment will do
            os.kill(supervisor, signal.SIGKILL)
            deed.communicate(timeout=60)
        states = {one["id"]: one["state"] for one in engine.json("ps")}
        assert frozen(places) == {id for id, state in states.items() if state == "paused"}
        assert set(states) == set(ids)
    engine.cli("unpause", *ids)
    assert not frozen(places)
    engine.cli("kill", *ids, check=True)
    engine.cli("wait", *ids, check=True)
