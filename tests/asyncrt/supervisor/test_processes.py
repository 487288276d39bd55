"""The processes beside the supervisor die: what each one's death costs, and what it does not."""

import os
import signal

import pytest

from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not watch.alive(pid), f"{pid} is dead")


def zygote_pid(engine: Engine) -> int:
    return int(engine.json("info")["zygote_pid"])


def test_a_zygote_that_dies_is_replaced(engine: Engine, image: str) -> None:
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    engine.cli("run", "-d", "--count", "5", "--name", "old", image, "sh", "-c", script, check=True)
    before = {row["id"]: row["pid"] for row in engine.json("ps")}
    supervisor, zygote = engine.supervisor_pid(), zygote_pid(engine)
    kill(zygote)
    until(lambda: zygote_pid(engine) != zygote, "there is another zygote")
    assert engine.supervisor_pid() == supervisor
    assert {row["id"]: row["pid"] for row in engine.json("ps")} == before, "running containers are unharmed"
    done = engine.cli("run", image, "sh", "-c", "echo new; exit 4")
    assert (done.returncode, done.stdout) == (4, "new\n"), engine.story(done)
    assert engine.cli("exec", "old-1", "echo", "still here", check=True).stdout == "still here\n"
    until(lambda: "ready" in engine.cli("logs", "old-2").stdout, "its handler stands")
    engine.cli("stop", "old-2", check=True)
    assert engine.inspect("old-2")["exit"]["code"] == 5


def test_a_run_while_the_zygote_is_replaced(engine: Engine, image: str) -> None:
    """It waits for the new one, or fails with a line that says what to do; it does not hang."""
    engine.cli("run", image, "true", check=True)
    for _ in range(3):
        kill(zygote_pid(engine))
        done = engine.cli("run", "--rm", image, "sh", "-c", "exit 3", timeout=30)
        if done.returncode != 3:
            assert done.returncode == 125, engine.story(done)
            assert len(done.stderr.splitlines()) == 1
            assert "zygote" in done.stderr
        until(lambda: engine.cli("run", "--rm", image, "true").returncode == 0, "the next one runs")


def test_the_zygote_dies_while_many_start(engine: Engine, image: str) -> None:
    """Each container either runs or is reported as failed and taken back; starts that wait get the next zygote."""
    engine.cli("run", "--rm", image, "true", check=True)
    zygote = zygote_pid(engine)
    command = engine.popen("run", "-d", "--count", "100", image, "sleep", "600")
    assert command.stdout is not None
    first = [command.stdout.readline().decode().strip() for _ in range(20)]
    os.kill(zygote, signal.SIGKILL)
    out, err = command.communicate(timeout=40)
    assert b"no answer for" not in err, "a start that nobody will do is told as lost, not waited for"
    ids = [*first, *out.decode().split()]
    failed = [line for line in err.decode().splitlines() if "start " in line]
    assert len(ids) + len(failed) == 100, err
    assert (command.returncode == 0) == (not failed)
    rows = engine.json("ps", "-a")
    assert {row["id"] for row in rows} == set(ids)
    assert {row["state"] for row in rows} == {"running"}
    assert all(watch.alive(row["pid"]) for row in rows)


def test_a_shim_that_dies_takes_its_container_with_it(engine: Engine, image: str) -> None:
    script = "sleep 601 & sh -c 'sleep 602 & wait' & echo written; wait"
    ids = engine.cli("run", "-d", "--count", "3", image, "sh", "-c", script, check=True).stdout.split()
    victim, *others = ids
    until(lambda: "written" in engine.cli("logs", victim).stdout, "it wrote")
    until(lambda: len(watch.members(engine, victim)) >= 4, "it forked")
    members = watch.members(engine, victim)
    kill(engine.inspect(victim)["shim_pid"])
    assert engine.cli("wait", victim, check=True).stdout == "137\n"
    record = engine.inspect(victim)
    assert (record["state"], record["pid"], record["shim_pid"]) == ("stopped", 0, 0)
    assert record["exit"]["lost"] == "the shim was killed, and the container with it"
    until(lambda: not any(watch.alive(pid) for pid in members), "its processes are gone")
    assert watch.cgroup_dirs(engine, victim) == []
    assert not (engine.state / "shims" / f"{victim}.sock").exists()
    assert engine.cli("logs", victim, check=True).stdout == "written\n", "its log is not lost"
    assert {row["id"] for row in engine.json("ps")} == set(others), "the others are unharmed"
    engine.cli("start", victim, check=True)
    assert engine.inspect(victim)["state"] == "running", "it can be started again"


def test_a_shim_dies_while_no_supervisor_lives(engine: Engine, image: str) -> None:
    id = engine.cli("run", "-d", image, "sh", "-c", "sleep 601 & wait", check=True).stdout.strip()
    until(lambda: len(watch.members(engine, id)) >= 2, "it forked")
    members = watch.members(engine, id)
    shim = engine.inspect(id)["shim_pid"]
    places = watch.cgroup_dirs(engine, id)
    assert places
    kill(engine.supervisor_pid())
    kill(shim)
    record = engine.inspect(id)
    assert (record["state"], record["exit"]["code"]) == ("stopped", 137)
    assert record["exit"]["lost"]
    assert not any(watch.alive(pid) for pid in members)
    assert not any(place.exists() for place in places)


def test_everything_dies_at_once(engine: Engine, image: str) -> None:
    ids = engine.cli("run", "-d", "--count", "10", image, "sleep", "600", check=True).stdout.split()
    shims = [engine.inspect(id)["shim_pid"] for id in ids]
    pids = [engine.inspect(id)["pid"] for id in ids]
    for pid in [engine.supervisor_pid(), zygote_pid(engine), *shims]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(watch.alive(pid) for pid in pids), "the containers went with their shims")
    rows = engine.json("ps", "-a")
    assert {row["id"]: row["exit_code"] for row in rows} == dict.fromkeys(ids, 137)
    assert engine.cli("run", image, "sh", "-c", "exit 6").returncode == 6


def test_a_predecessors_zygote_is_ended(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", image, "sleep", "600", check=True)
    zygote = zygote_pid(engine)
    os.kill(zygote, signal.SIGSTOP)  # one that does not notice that its supervisor died
    kill(engine.supervisor_pid())
    assert engine.cli("run", image, "true").returncode == 0
    assert zygote_pid(engine) != zygote
    until(lambda: not watch.alive(zygote), "the old one is gone")


def test_a_container_keeps_nothing_of_the_supervisor(engine: Engine, image: str) -> None:
    """The fds of a shim: its pipes, its sockets, its files. None of other containers, none of the supervisor's."""
    ids = engine.cli("run", "-d", "--count", "20", image, "sleep", "600", check=True).stdout.split()
    counts = {len(os.listdir(f"/proc/{engine.inspect(id)['shim_pid']}/fd")) for id in ids}
    assert len(counts) == 1, "the last one holds no more than the first"
    assert counts.pop() <= 16
