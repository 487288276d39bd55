"""How containers end: exit codes, signals, stop, wait, --rm, and what the record says."""

import json
import subprocess
import time

import pytest

from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


def test_every_exit_code(shared: Engine, image: str) -> None:
    ids = shared.cli(
        "run", "-d", "--count", "256", image, "sh", "-c", "exit $ASYNCRT_INDEX", check=True, timeout=120
    ).stdout.split()
    assert len(ids) == 256
    codes = [int(line) for line in shared.cli("wait", *ids, check=True, timeout=60).stdout.split()]
    records = json.loads(shared.cli("inspect", *ids, check=True).stdout)
    assert codes == [record["index"] for record in records]
    assert [record["exit"]["code"] for record in records] == codes
    assert {record["exit"]["signal"] for record in records} == {0}
    assert {record["state"] for record in records} == {"stopped"}
    assert {record["pid"] for record in records} == {0}


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 255])
def test_run_returns_the_code(shared: Engine, image: str, code: int) -> None:
    assert shared.cli("run", image, "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize(
    ("program", "code", "cause"),
    [
        ("no-such-program", 127, "run no-such-program: no such file or directory"),
        ("/bin/no-such-program", 127, "run /bin/no-such-program: no such file or directory"),
        ("nointerp", 127, "run nointerp: its interpreter is missing"),
        ("notexec", 126, "run notexec: permission denied"),
        ("/etc", 126, "run /etc: permission denied"),
        ("garbage", 126, "run garbage: exec format error"),
        ("noshebang", 126, "run noshebang: exec format error"),
    ],
)
def test_programs_that_cannot_run(shared: Engine, image: str, program: str, code: int, cause: str) -> None:
    for mode in ((), ("-d",), ("--rm",)):
        done = shared.cli("run", *mode, image, program)
        assert done.returncode == code, shared.story(done)
        assert done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.removesuffix(" (is it on the container's PATH?)") == f"asyncrt: {cause}"
    assert shared.ids() == [], "a container that never ran is taken back"


def test_killed(shared: Engine, image: str) -> None:
    started = shared.popen("run", "--name", "victim", image, "sleep", "600")
    until(lambda: shared.json("ps"), "it runs")
    assert shared.cli("kill", "victim", check=True).stdout == "victim\n"
    assert started.wait(20) == 137
    started.communicate()
    record = shared.inspect("victim")
    assert (record["exit"]["code"], record["exit"]["signal"], record["exit"]["lost"]) == (137, 9, "")


def test_kill_with_a_signal_that_is_handled(shared: Engine, image: str) -> None:
    script = "trap 'echo got usr1' USR1; trap 'exit 143' TERM; echo ready; while :; do sleep 0.05; done"
    shared.cli("run", "-d", "--name", "listener", image, "sh", "-c", script, check=True)
    until(lambda: "ready" in shared.cli("logs", "listener").stdout, "its handlers stand")
    shared.cli("kill", "-s", "USR1", "listener", check=True)
    until(lambda: "got usr1" in shared.cli("logs", "listener").stdout, "it got the signal")
    shared.cli("kill", "-s", "SIGTERM", "listener", check=True)
    assert shared.cli("wait", "listener", check=True).stdout == "143\n"


def test_stop_is_polite_first(shared: Engine, image: str) -> None:
    script = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    shared.cli("run", "-d", "--name", "polite", image, "sh", "-c", script, check=True)
    until(lambda: "ready" in shared.cli("logs", "polite").stdout, "its handler stands")
    assert shared.cli("stop", "polite", check=True).stdout == "polite\n"
    assert shared.inspect("polite")["exit"]["code"] == 7
    assert "bye" in shared.cli("logs", "polite").stdout


def test_stop_kills_who_does_not_listen(shared: Engine, image: str) -> None:
    ids = shared.cli("run", "-d", "--count", "3", image, "sleep", "600", check=True).stdout.split()
    begin = time.monotonic()
    shared.cli("stop", "-t", "0.3", *ids, check=True)
    assert time.monotonic() - begin >= 0.3
    records = json.loads(shared.cli("inspect", *ids, check=True).stdout)
    assert [(record["exit"]["code"], record["exit"]["signal"]) for record in records] == [(137, 9)] * 3


def test_deeds_on_one_that_ended(shared: Engine, image: str) -> None:
    shared.cli("run", "--name", "past", image, "true", check=True)
    shared.cli("stop", "past", check=True)  # it is stopped already: the wish is granted
    done = shared.cli("kill", "past")
    assert done.returncode == 1
    assert done.stderr == "asyncrt: kill past: it is not running (it is stopped)\n"
    done = shared.cli("exec", "past", "true")
    assert done.returncode == 125
    assert done.stderr == "asyncrt: exec in past: it is not running (it is stopped)\n"
    assert shared.cli("wait", "past", check=True).stdout == "0\n"
    assert shared.cli("rm", "past", check=True).stdout == "past\n"


def test_rm_refuses_what_runs(shared: Engine, image: str) -> None:
    shared.cli("run", "-d", "--name", "busy", image, "sleep", "600", check=True)
    done = shared.cli("rm", "busy")
    assert done.returncode == 1
    assert done.stderr == "asyncrt: remove busy: it is running (stop it, or use -f)\n"
    assert shared.inspect("busy")["state"] == "running"
    shared.cli("rm", "-f", "busy", check=True)
    assert shared.ids() == []


def test_rm_flag_removes_it_and_the_code_stays(shared: Engine, image: str) -> None:
    assert shared.cli("run", "--rm", image, "sh", "-c", "echo x > /file; exit 4").returncode == 4
    until(lambda: not shared.ids(), "it is removed")
    assert list((shared.root / "snapshots").iterdir()) == []


def test_removals_of_the_same_container_share_their_success(shared: Engine, image: str) -> None:
    """Four clients remove all of 60 that are being killed, and that --rm takes away besides: nobody is refused."""
    shared.cli("run", "-d", "--rm", "--count", "60", image, "sleep", "600", check=True)
    several = [shared.popen("rm", "--force", "--all") for _ in range(4)]
    told = [(*process.communicate(timeout=60), process.returncode) for process in several]
    assert [(err, code) for _, err, code in told] == [(b"", 0)] * 4
    assert shared.ids() == []


def test_wait_for_one_that_removes_itself(shared: Engine, image: str) -> None:
    id = shared.cli("run", "-d", "--rm", image, "sh", "-c", "sleep 0.3; exit 6", check=True).stdout.strip()
    assert shared.cli("wait", id, check=True).stdout == "6\n"
    until(lambda: not shared.ids(), "it is removed")
    assert shared.cli("wait", id, check=True).stdout == "6\n", "a wait that comes late is still answered"


def test_wait_answers_when_it_ends_not_before(shared: Engine, image: str) -> None:
    shared.cli("run", "-d", "--name", "slow", image, "sleep", "600", check=True)
    waiting = shared.popen("wait", "slow")
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    shared.cli("kill", "slow", check=True)
    out, _ = waiting.communicate(timeout=20)
    assert (waiting.returncode, out) == (0, b"137\n")


def test_an_end_takes_everything_inside_with_it(shared: Engine, image: str) -> None:
    script = "sleep 601 & sleep 602 & sh -c 'sleep 603 & wait' & echo ready; wait"
    id = shared.cli("run", "-d", image, "sh", "-c", script, check=True).stdout.strip()
    until(lambda: len(watch.members(shared, id)) >= 5, "it has forked")
    members = watch.members(shared, id)
    shared.cli("kill", id, check=True)
    shared.cli("wait", id, check=True)
    until(lambda: not any(watch.alive(pid) for pid in members), "its processes are gone")
    until(lambda: not watch.cgroup_dirs(shared, id), "its cgroups are gone")


def test_a_signal_reaches_a_container_in_the_foreground(shared: Engine, image: str) -> None:
    script = "trap 'exit 33' INT; echo ready; while :; do sleep 0.05; done"
    started = shared.popen("run", image, "sh", "-c", script)
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    started.send_signal(2)
    started.communicate(timeout=20)
    assert started.returncode == 33


def test_the_record_of_an_end(shared: Engine, image: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo 12345; echo 123 >&2"
    shared.cli("run", "--name", "known", image, "sh", "-c", script, check=True)
    record = shared.inspect("known")
    ended = record["exit"]
    assert (ended["stdout_bytes"], ended["stderr_bytes"]) == (6, 4)
    assert ended["started_ns"] == record["started_ns"]
    assert record["created_ns"] <= ended["started_ns"] < ended["ended_ns"]
    assert ended["cpu_ns"] > 1_000_000
    assert ended["memory_peak"] > 4096
    assert ended["oom_kills"] == 0


def test_events_tell_the_story_in_order(shared: Engine, image: str) -> None:
    last = shared.json("info")["last_event"]
    id = shared.cli("run", "-d", image, "sh", "-c", "exit 3", check=True).stdout.strip()
    shared.cli("wait", id, check=True)
    shared.cli("rm", id, check=True)
    done = shared.cli("events", "--no-follow", "--since-seq", str(last), "--format", "json", check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["action"] for event in events] == ["create", "start", "die", "destroy"]
    assert [event["seq"] for event in events] == list(range(last + 1, last + 5))
    assert {event["id"] for event in events} == {id}
    assert events[2]["attributes"]["code"] == 3
