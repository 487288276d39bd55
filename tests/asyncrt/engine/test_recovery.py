"""The supervisor dies, in every way and at bad moments: its successor knows every container, none is started twice,
each exit code is right, no output byte is missing."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client
from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

# One line per start in a file that all share; text before and after; a code of its own.
LIFE = (
    "echo $HOSTNAME >> /shared/starts; echo before $ASYNCRT_INDEX; echo BEFORE $ASYNCRT_INDEX >&2;"
    " until [ -e /shared/go ]; do sleep 0.3; done;"
    " echo after $ASYNCRT_INDEX; echo AFTER $ASYNCRT_INDEX >&2; exit $((ASYNCRT_INDEX + 1))"
)
COUNT = 100


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not watch.alive(pid), f"{pid} is dead")


def starts(place: Path) -> Counter[str]:
    """How often each container was started, by the first digits of its id."""
    file = place / "starts"
    return Counter(file.read_text().split() if file.exists() else ())


def crowd(engine: Engine, image: str, place: Path) -> subprocess.Popen[bytes]:
    command = ("run", "-d", "--count", str(COUNT), "-v", f"{place}:/shared", image, "sh", "-c", LIFE)
    return engine.popen(*command)


def all_went_well(engine: Engine, place: Path) -> None:
    """Each was started once, wrote everything and ended with its own code."""
    (place / "go").touch()
    ids = engine.ids()
    if not ids:  # the supervisor was killed before it had made them
        assert not starts(place)
        return
    engine.cli("wait", *ids, check=True, timeout=60)
    with Client(str(engine.socket), timeout=30) as client:
        for record in client.inspect(ids):
            index = record.index
            assert record.exit is not None
            assert (record.exit.code, record.exit.lost) == (index + 1, ""), record
            files = client.logs(record.id)
            texts = {name: os.pread(fd, 1000, 0) for name, fd in files.items()}
            close_all(files.values())
            assert texts["stdout"] == b"before %d\nafter %d\n" % (index, index)
            assert texts["stderr"] == b"BEFORE %d\nAFTER %d\n" % (index, index)
    assert starts(place) == Counter({id[:12]: 1 for id in ids})


Moment = Callable[[subprocess.Popen[bytes]], list[str]]


def after_ids(number: int) -> Moment:
    """Waits until so many are said to run; these."""

    def read(command: subprocess.Popen[bytes]) -> list[str]:
        assert command.stdout is not None
        return [command.stdout.readline().decode().strip() for _ in range(number)]

    return read


def after_seconds(seconds: float) -> Moment:
    def sleep(command: subprocess.Popen[bytes]) -> list[str]:
        time.sleep(seconds)
        return []

    return sleep


@pytest.mark.parametrize(
    "moment",
    [after_seconds(0.05), after_seconds(0.15), after_ids(1), after_ids(30), after_ids(90)],
    ids=["after 50 ms", "after 150 ms", "at the first id", "at the 30th id", "at the 90th id"],
)
def test_killed_while_many_start_and_again_while_they_run(
    engine: Engine, image: str, tmp_path: Path, moment: Moment
) -> None:
    first = engine.supervisor_pid()
    command = crowd(engine, image, tmp_path)
    printed = moment(command)
    kill(first)
    out, err = command.communicate(timeout=30)
    assert b"Traceback" not in err
    printed += out.decode().split()
    assert (command.returncode == 0) == (len(printed) == COUNT), err

    known = {row["id"]: row for row in engine.json("ps", "-a")}
    assert engine.supervisor_pid() != first
    assert len(known) in (0, COUNT), "made all at once, or not at all"
    assert set(printed) <= known.keys()
    running = {id for id, row in known.items() if row["state"] == "running"}
    assert {row["state"] for row in known.values()} <= {"running", "created"}
    assert set(printed) <= running, "who was told to run does run"
    assert all(watch.alive(known[id]["pid"]) for id in running)
    until(lambda: len(starts(tmp_path)) >= len(running), "the running ones have written their line")
    assert set(starts(tmp_path)) == {id[:12] for id in running}, "only they were started"

    # The others can be started now, and are not confused with those.
    rest = sorted(known.keys() - running)
    if rest:
        engine.cli("start", *rest, check=True, timeout=60)
    before = {row["id"]: row["pid"] for row in engine.json("ps")}
    assert len(before) == len(known)

    second = engine.supervisor_pid()
    kill(second)
    assert {row["id"]: row["pid"] for row in engine.json("ps")} == before, "the same processes"
    assert engine.supervisor_pid() not in (first, second)
    all_went_well(engine, tmp_path)


def test_containers_end_and_write_while_no_supervisor_lives(engine: Engine, image: str, tmp_path: Path) -> None:
    command = crowd(engine, image, tmp_path)
    out, _ = command.communicate(timeout=60)
    assert len(out.split()) == COUNT
    shims = [record["shim_pid"] for record in json.loads(engine.cli("inspect", *out.decode().split()).stdout)]
    kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    until(lambda: not any(watch.alive(pid) for pid in shims), "all ended, and their shims with them")
    all_went_well(engine, tmp_path)


def test_killed_in_mid_removal(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", "--count", "60", image, "sleep", "600", check=True)
    pids = [row["pid"] for row in engine.json("ps")]
    supervisor = engine.supervisor_pid()
    command = engine.popen("rm", "-f", "--all")
    assert command.stdout is not None
    for _ in range(5):
        command.stdout.readline()
    kill(supervisor)
    command.communicate(timeout=30)
    engine.cli("rm", "-f", "--all", check=True, timeout=60)
    assert engine.ids() == []
    assert not any(watch.alive(pid) for pid in pids)
    assert list((engine.root / "snapshots").iterdir()) == []
    assert list((engine.root / "containers").iterdir()) == []


def test_stopped_and_adopted(engine: Engine, image: str, tmp_path: Path) -> None:
    """`daemon stop` and SIGTERM: containers go on, the socket is gone, the next command starts another."""
    command = crowd(engine, image, tmp_path)
    assert len(command.communicate(timeout=60)[0].split()) == COUNT
    before = {row["id"]: row["pid"] for row in engine.json("ps")}
    pid = engine.supervisor_pid()
    done = engine.cli("daemon", "stop", check=True)
    assert done.stdout == f"stopped the supervisor (pid {pid}); containers go on\n"
    assert not watch.alive(pid)
    assert not engine.socket.exists()
    assert all(watch.alive(pid) for pid in before.values())
    assert engine.cli("daemon", "stop", check=True).stdout == f"no supervisor runs at {engine.socket}\n"

    done = engine.cli("ps", "--format", "json", check=True)
    assert done.stderr.startswith("asyncrt: started the supervisor (pid ")
    assert {row["id"]: row["pid"] for row in engine.json("ps")} == before
    pid = engine.supervisor_pid()
    os.kill(pid, signal.SIGTERM)
    until(lambda: not watch.alive(pid), "it ended")
    assert not engine.socket.exists()
    assert {row["id"]: row["pid"] for row in engine.json("ps")} == before
    all_went_well(engine, tmp_path)


def test_killed_with_a_foreground_run_attached(engine: Engine, image: str, tmp_path: Path) -> None:
    script = "echo one; until [ -e /shared/go ]; do sleep 0.1; done; echo two; echo err >&2; exit 9"
    engine.cli("info", check=True)
    command = engine.popen("run", "-v", f"{tmp_path}:/shared", image, "sh", "-c", script)
    assert command.stdout is not None
    assert command.stdout.readline() == b"one\n"
    kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    out, err = command.communicate(timeout=30)
    assert (command.returncode, out) == (9, b"two\n")
    assert b"err\n" in err
    assert b"Traceback" not in err


def test_killed_with_a_foreground_crowd_attached(engine: Engine, image: str, tmp_path: Path) -> None:
    script = (
        "echo one $ASYNCRT_INDEX; until [ -e /shared/go ]; do sleep 0.1; done; echo two $ASYNCRT_INDEX;"
        " [ $ASYNCRT_INDEX != 4 ] || exit 44"
    )
    engine.cli("info", check=True)
    command = engine.popen(
        "run", "--count", "10", "--name", "band", "-v", f"{tmp_path}:/shared", image, "sh", "-c", script
    )
    assert command.stdout is not None
    seen = [command.stdout.readline() for _ in range(10)]
    kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    out, err = command.communicate(timeout=30)
    lines = sorted(line.decode() for line in [*seen, *out.splitlines(keepends=True)])
    assert lines == sorted(f"band-{n + 1} | {word} {n}\n" for n in range(10) for word in ("one", "two"))
    assert command.returncode == 44, err


def test_the_command_is_killed_in_mid_run(engine: Engine, image: str, tmp_path: Path) -> None:
    script = "i=0; until [ -e /shared/go ]; do echo $i; i=$((i+1)); sleep 0.02; done; echo end; exit 8"
    command = engine.popen("run", "--name", "orphan", "-v", f"{tmp_path}:/shared", image, "sh", "-c", script)
    assert command.stdout is not None
    assert command.stdout.readline() == b"0\n"
    kill(command.pid)
    command.communicate()
    assert engine.inspect("orphan")["state"] == "running"
    (tmp_path / "go").touch()
    assert engine.cli("wait", "orphan", check=True).stdout == "8\n"
    lines = engine.cli("logs", "orphan", check=True).stdout.split()
    assert lines == [*map(str, range(len(lines) - 1)), "end"]


def test_the_command_is_killed_while_many_start(engine: Engine, image: str, tmp_path: Path) -> None:
    engine.cli("info", check=True)
    command = crowd(engine, image, tmp_path)
    assert command.stdout is not None
    command.stdout.readline()
    kill(command.pid)
    command.communicate()

    def settled() -> bool:
        rows = engine.json("ps", "-a")
        return all(row["state"] == "running" for row in rows) and len(starts(tmp_path)) == len(rows)

    until(settled, "what was not started is taken back, what was goes on")
    all_went_well(engine, tmp_path)


def test_events_go_on_without_a_gap(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", "--name", "first", image, "sleep", "600", check=True)
    kill(engine.supervisor_pid())
    engine.cli("run", "--name", "second", image, "true", check=True)
    done = engine.cli("events", "--no-follow", "--since-seq", "0", check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [int(row[1]) for row in rows] == list(range(1, len(rows) + 1))
    assert [(row[2], row[4]) for row in rows] == [
        ("create", "first"),
        ("start", "first"),
        ("adopt", "first"),
        ("create", "second"),
        ("start", "second"),
        ("die", "second"),
    ]


def test_records_of_ended_ones_stay(engine: Engine, image: str) -> None:
    engine.cli("run", "--name", "past", image, "sh", "-c", "echo said; exit 5")
    before = engine.inspect("past")
    kill(engine.supervisor_pid())
    assert engine.inspect("past") == before
    assert engine.cli("logs", "past", check=True).stdout == "said\n"
    engine.cli("start", "past", check=True)
    engine.cli("wait", "past", check=True)
    assert engine.cli("logs", "past", check=True).stdout == "said\nsaid\n"


def test_auto_remove_is_kept_across_a_death(engine: Engine, image: str, tmp_path: Path) -> None:
    script = "until [ -e /shared/go ]; do sleep 0.1; done"
    flags = ("--rm", "--count", "5", "-v", f"{tmp_path}:/shared")
    ids = engine.cli("run", "-d", *flags, image, "sh", "-c", script, check=True).stdout.split()
    shims = [engine.inspect(id)["shim_pid"] for id in ids]
    kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    until(lambda: not any(watch.alive(pid) for pid in shims), "they ended")
    until(lambda: engine.ids() == [], "they are removed")
    assert list((engine.root / "snapshots").iterdir()) == []


def test_ten_commands_start_one_supervisor(engine: Engine, image: str) -> None:
    commands = [engine.popen("ps", "--format", "json") for _ in range(10)]
    said = []
    for command in commands:
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out) == (0, b"[]\n"), err
        said += err.decode().splitlines()
    assert said == [f"asyncrt: started the supervisor (pid {engine.supervisor_pid()})"]


def test_ten_runs_after_a_death_start_one_supervisor(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", "--name", "old", image, "sleep", "600", check=True)
    kill(engine.supervisor_pid())
    commands = [engine.popen("run", image, "sh", "-c", "exit 4") for _ in range(10)]
    for command in commands:
        _, err = command.communicate(timeout=60)
        assert command.returncode == 4, err
    assert engine.inspect("old")["state"] == "running"


@pytest.mark.busybox
def test_an_adopted_container_takes_every_deed(engine: Engine, image: str, tmp_path: Path) -> None:
    script = "trap 'exit 21' TERM; echo ready; while :; do sleep 0.05; done"
    engine.cli("run", "-d", "--name", "foundling", image, "sh", "-c", script, check=True)
    with (tmp_path / "err").open("wb") as err:  # the exec has it, too, and lives on
        words = ("sh", "-c", "trap 'exit 17' USR1; echo on; while :; do sleep 0.05; done")
        sleeper = engine.popen("exec", "foundling", *words, stderr=err)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == b"on\n"
    init = engine.inspect("foundling")["pid"]
    kill(engine.supervisor_pid())
    shells = [pid for pid in watch.members(engine, engine.ids()[0]) - {init} if watch.name(pid) == "sh"]
    assert sleeper.poll() is None, "an exec outlives the supervisor, and who waits for it too"
    for pid in shells:
        os.kill(pid, signal.SIGUSR1)
    sleeper.communicate(timeout=30)
    assert sleeper.returncode == 17, (tmp_path / "err").read_text()
    assert engine.cli("exec", "foundling", "sh", "-c", "exit 9").returncode == 9
    follower = engine.popen("logs", "-f", "foundling")
    engine.cli("stop", "foundling", check=True)
    assert follower.communicate(timeout=20)[0] == b"ready\n"
    assert engine.inspect("foundling")["exit"]["code"] == 21


def test_the_second_run_of_one_is_not_taken_for_its_first(engine: Engine, image: str, tmp_path: Path) -> None:
    script = "[ -e /again ] || { touch /again; exit 1; }; until [ -e /shared/go ]; do sleep 0.05; done; exit 2"
    engine.cli("run", "--name", "twice", "-v", f"{tmp_path}:/shared", image, "sh", "-c", script)
    assert engine.inspect("twice")["exit"]["code"] == 1
    engine.cli("start", "twice", check=True)
    assert engine.inspect("twice")["exit"] is None
    shim = engine.inspect("twice")["shim_pid"]
    kill(engine.supervisor_pid())
    assert engine.inspect("twice")["state"] == "running"
    kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    until(lambda: not watch.alive(shim), "it ended while no supervisor lived")
    assert engine.inspect("twice")["exit"]["code"] == 2


def test_a_long_life_of_deaths(engine: Engine, image: str, tmp_path: Path) -> None:
    """Supervisors die one after another while a container writes without end: no line is lost or doubled."""
    script = "i=0; until [ -e /shared/go ]; do echo $i; i=$((i+1)); sleep 0.005; done"
    engine.cli("run", "-d", "--name", "diary", "-v", f"{tmp_path}:/shared", image, "sh", "-c", script, check=True)
    follower = engine.popen("logs", "-f", "diary")
    assert follower.stdout is not None
    # Far more than the log had when it came: it gets them from the shim by now.
    seen = [follower.stdout.readline().decode().strip() for _ in range(100)]
    for _ in range(5):
        kill(engine.supervisor_pid())
    (tmp_path / "go").touch()
    assert engine.cli("wait", "diary", check=True).stdout == "0\n"
    lines = engine.cli("logs", "diary", check=True).stdout.split()
    assert lines == [str(n) for n in range(len(lines))]
    seen += follower.communicate(timeout=20)[0].decode().split()
    assert seen == lines, "the shim holds the follower's pipes: it never noticed"


@pytest.mark.parametrize("deed", ["stop", "SIGTERM"])
def test_stopped_while_many_start(engine: Engine, image: str, tmp_path: Path, deed: str) -> None:
    first = engine.supervisor_pid()
    command = crowd(engine, image, tmp_path)
    printed = after_ids(15)(command)
    if deed == "stop":
        engine.cli("daemon", "stop", check=True)
    else:
        os.kill(first, signal.SIGTERM)
    until(lambda: not watch.alive(first), "it ended")
    out, err = command.communicate(timeout=30)
    assert b"Traceback" not in err
    printed += out.decode().split()
    rows = engine.json("ps", "-a")
    running = {row["id"] for row in rows if row["state"] == "running"}
    assert set(printed) <= running
    rest = [row["id"] for row in rows if row["state"] == "created"]
    assert len(running) + len(rest) == len(rows)
    if rest:
        engine.cli("start", *rest, check=True, timeout=60)
    all_went_well(engine, tmp_path)


def test_stopped_while_many_are_removed(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", "--count", "60", image, "sleep", "600", check=True)
    command = engine.popen("rm", "-f", "--all")
    assert command.stdout is not None
    command.stdout.readline()
    done = engine.cli("daemon", "stop", timeout=60)
    assert done.returncode == 0, engine.story(done)
    command.communicate(timeout=30)
    engine.cli("rm", "-f", "--all", check=True, timeout=60)
    assert engine.ids() == []
