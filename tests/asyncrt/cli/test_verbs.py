"""Each verb against the fake supervisor: what it asks, prints and returns."""

import itertools
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.model import protocol
from tests.asyncrt.cli.conftest import Command
from tests.asyncrt.fake_supervisor import FakeSupervisor

Until = Callable[[Callable[[], object]], None]


def test_ps_table_ids_and_json(asyncrt: Command, fake: FakeSupervisor) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    asyncrt("run", "--name", "done", "host:", "sh", "-c", "exit 3")
    lines = asyncrt("ps").stdout.splitlines()
    assert lines[0].split() == ["CONTAINER", "ID", "NAME", "IMAGE", "COMMAND", "CREATED", "STATUS", "PID"]
    assert len(lines) == 2
    assert '"sleep 60"' in lines[1]
    assert "Up " in lines[1]
    assert asyncrt("ps", "-q").stdout == next(iter(fake.containers))[:12] + "\n"
    assert asyncrt("ps", "-aq", "--no-trunc").stdout.split() == list(reversed(fake.containers))
    first, second = json.loads(asyncrt("ps", "-a", "--format", "json").stdout)
    assert (first["name"], first["state"], first["exit_code"]) == ("done", "stopped", 3)
    assert first["status"].startswith("Exited (3) ")
    assert (second["name"], second["state"], second["exit_code"]) == ("web", "running", None)
    assert second["pid"] > 0


def test_an_empty_listing(asyncrt: Command) -> None:
    assert asyncrt("ps").stdout.count("\n") == 1
    assert json.loads(asyncrt("ps", "--format=json").stdout) == []


def test_inspect(asyncrt: Command) -> None:
    asyncrt("run", "--name", "web", "-e", "A=1", "host:", "sh", "-c", "exit 3")
    (document,) = json.loads(asyncrt("inspect", "web").stdout)
    assert document["args"] == ["sh", "-c", "exit 3"]
    assert document["exit"]["code"] == 3
    assert document["options"]["env"] == ["A=1"]
    assert document["created"].endswith("Z")
    assert [entry["phase"] for entry in document["timeline"]][:2] == ["request", "queue"]
    ends = [entry["ns"] for entry in document["timeline"]]
    assert [entry["duration_ns"] for entry in document["timeline"]] == [
        0,
        *(after - before for before, after in itertools.pairwise(ends)),
    ]
    gone = asyncrt("inspect", "nobody")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr == "asyncrt: find nobody: no such container (see: asyncrt ps -a)\n"


def test_create_start_wait(asyncrt: Command, fake: FakeSupervisor) -> None:
    ids = asyncrt("create", "--count", "2", "--name", "job", "host:", "sh", "-c", "exit 4").stdout.split()
    assert ids == list(fake.containers)
    done = asyncrt("start", "job-1", ids[1][:8])
    assert (done.returncode, done.stdout.split()) == (0, ["job-1", ids[1][:8]])
    assert asyncrt("wait", "job-2", "job-1").stdout == "4\n4\n"


def test_start_that_fails(asyncrt: Command) -> None:
    asyncrt("create", "--name", "bad", "absent:", "x")
    done = asyncrt("start", "bad")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("asyncrt: start bad: executable not found")


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "15"])
def test_kill(asyncrt: Command, fake: FakeSupervisor, name: str) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    assert asyncrt("kill", "-s", name, "web").stdout == "web\n"
    assert asyncrt("wait", "web").stdout == "143\n"
    assert fake.of(protocol.Kill) == [protocol.Kill(("web",), 15)]


def test_stop_and_rm_show_what_they_did_and_what_not(asyncrt: Command, fake: FakeSupervisor) -> None:
    for name in ("one", "two"):
        asyncrt("run", "-d", "--name", name, "host:", "sleep", "60")
    assert asyncrt("stop", "-t", "0.5", "one").stdout == "one\n"
    assert fake.of(protocol.Stop) == [protocol.Stop(("one",), 0.5)]
    asyncrt("wait", "one")
    done = asyncrt("rm", "one", "two", "three")
    assert (done.returncode, done.stdout) == (1, "one\n")
    assert done.stderr.splitlines() == [
        "asyncrt: remove two: it runs (stop it, or use -f)",
        "asyncrt: find three: no such container (see: asyncrt ps -a)",
    ]
    assert asyncrt("rm", "-f", "--all").returncode == 0
    assert asyncrt("rm", "--all").stdout == ""


def test_logs_in_the_order_of_writing(asyncrt: Command) -> None:
    script = "for i in 1 2 3; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done; printf rest"
    asyncrt("run", "--name", "web", "host:", "sh", "-c", script)
    shown = asyncrt("logs", "web")
    assert shown.stdout == "out 1\nout 2\nout 3\nrest"
    assert shown.stderr == "err 1\nerr 2\nerr 3\n"
    both = asyncrt.popen("logs", "web", stderr=subprocess.STDOUT)
    assert both.communicate()[0] == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nrest"


def test_logs_follow_to_the_end(asyncrt: Command) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sh", "-c", "echo one; sleep 0.5; echo two; echo err >&2")
    shown = asyncrt("logs", "-f", "web")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "one\ntwo\n", "err\n")
    assert asyncrt("logs", "-f", "web").stdout == "one\ntwo\n"


def test_exec_hands_over_stdio_and_exit_code(asyncrt: Command) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    done = asyncrt("exec", "-i", "web", "sh", "-c", "cat; echo err >&2; exit 6", input=b"fed")
    assert (done.returncode, done.stdout, done.stderr) == (6, "fed", "err\n")
    assert asyncrt("exec", "web", "cat", input=b"not fed").stdout == ""
    missing = asyncrt("exec", "web", "absent")
    assert (missing.returncode, missing.stderr) == (127, "asyncrt: exec absent: executable not found\n")
    assert asyncrt("exec", "nobody", "true").returncode == 125


def test_exec_detached(asyncrt: Command, tmp_path: Path, until: Until) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    done = asyncrt("exec", "-d", "-e", "A=1", "web", "sh", "-c", f"sleep 0.2; touch {tmp_path}/mark")
    assert (done.returncode, done.stdout) == (0, "")
    until((tmp_path / "mark").exists)


def test_exec_passes_a_file_and_not_a_copy(asyncrt: Command, tmp_path: Path) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    with (tmp_path / "out").open("wb") as out:
        script = "readlink /proc/self/fd/1"
        assert asyncrt.into(out, "exec", "web", "sh", "-c", script).returncode == 0
    assert (tmp_path / "out").read_text() == f"{tmp_path}/out\n"


def test_events(asyncrt: Command, fake: FakeSupervisor) -> None:
    assert asyncrt("events", "--no-follow").stdout.count("\n") == 3
    shown = asyncrt("events", "--since-seq", "1", "--no-follow", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in shown] == [2, 3]
    assert json.loads(shown[0])["time"] == "2023-11-14T22:13:20.000000002Z"


def test_events_lost_say_where_to_go_on(asyncrt: Command, fake: FakeSupervisor) -> None:
    with asyncrt.popen("events", "--since-seq", "0") as process:
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        fake.vanish()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert b"go on with --since-seq 3" in err


def test_info_and_version(asyncrt: Command) -> None:
    assert json.loads(asyncrt("info", "--format", "json").stdout)["supervisor_pid"] > 0
    assert "containers:\n  running: 1\nimages: host:\n" in asyncrt("info").stdout
    document = json.loads(asyncrt("version", "--format", "json").stdout)
    assert document["client"]["protocol"] == document["server"]["protocol"] == protocol.VERSION


def test_version_and_daemon_stop_start_none(alone: Command, tmp_path: Path) -> None:
    assert "server: none runs" in alone("version").stdout
    done = alone("daemon", "stop")
    assert (done.returncode, done.stdout) == (0, f"no supervisor runs at {tmp_path}/s\n")
    assert not (tmp_path / "state").exists()


def test_daemon_stop(asyncrt: Command, fake: FakeSupervisor) -> None:
    done = asyncrt("daemon", "stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("containers go on\n")
    fake.listen()


def test_a_reader_that_has_enough_is_no_error(asyncrt: Command) -> None:
    asyncrt("create", "--count", "300", "host:", "true")
    with asyncrt.popen("ps", "-a") as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_said(asyncrt: Command) -> None:
    with open("/dev/full", "wb") as full:
        done = asyncrt.into(full, "info")
    assert (done.returncode, done.stderr) == (1, b"asyncrt: write stdout: no space left on device\n")


def test_interrupted_while_waiting(asyncrt: Command, fake: FakeSupervisor, until: Until) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    with asyncrt.popen("wait", "web") as process:
        until(lambda: fake.of(protocol.Wait))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130


def test_without_root_it_says_so(asyncrt: Command, fake: FakeSupervisor) -> None:
    script = "import os; os.geteuid = lambda: 1000; from asyncrt.cli.main import main; raise SystemExit(main())"
    asyncrt.argv = [asyncrt.argv[0], "-c", script]
    for words, code in ((["ps"], 1), (["run", "host:", "true"], 125), (["daemon"], 1)):
        done = asyncrt(*words)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr == "asyncrt: asyncrt needs root: this is uid 1000 (try sudo)\n"
    assert asyncrt("version").returncode == 0
    assert fake.requests == []
