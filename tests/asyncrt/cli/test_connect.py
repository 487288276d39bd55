"""The first command starts a supervisor: ready, running, an error, silence, death."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.asyncrt.cli.conftest import PROJECT, Command

# Stands in for `asyncrt daemon`: sys.argv is SCRIPT FD SOCKET PYTHON-OF-WHAT-TO-DO
STAGE = f"""
import os, socket, sys, time
sys.path.insert(0, {str(PROJECT)!r})
ready, path = int(sys.argv[1]), sys.argv[2]
def say(line):
    os.write(ready, line.encode()); os.close(ready)
def serve():
    from tests.asyncrt.fake_supervisor import FakeSupervisor
    fake = FakeSupervisor(path)
    fake.listen()
    return fake
def last():
    time.sleep(2)
"""

SHELL = """
import sys
from asyncrt.cli import main
from asyncrt.sdk import door
door.DEADLINE = {deadline}
door.command = lambda places, fd: [sys.executable, "-c", {stage!r}, str(fd), places.socket]
sys.exit(main.main())
"""


def staged(command: Command, play: str, deadline: float = 15.0) -> Command:
    script = SHELL.format(stage=STAGE + play, deadline=deadline)
    command.argv = [command.argv[0], "-c", script]
    return command


def test_the_first_command_starts_one_and_says_so_once(alone: Command, tmp_path: Path) -> None:
    play = "fake = serve(); say(f'ready {os.getpid()}\\n'); print('a word', flush=True); last()"
    started = staged(alone, play)("ps")
    assert (started.returncode, started.stdout.count("\n")) == (0, 1)
    word, pid = started.stderr.removeprefix("asyncrt: ").split(" (pid ")
    assert word == "started the supervisor"
    daemon = int(pid.rstrip(")\n"))
    assert os.getsid(daemon) == daemon
    assert os.readlink(f"/proc/{daemon}/cwd") == "/"
    assert os.readlink(f"/proc/{daemon}/fd/0") == "/dev/null"
    log = tmp_path / "state" / "daemon.log"
    assert os.readlink(f"/proc/{daemon}/fd/1") == os.readlink(f"/proc/{daemon}/fd/2") == str(log)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert log.stat().st_mode & 0o777 == 0o600
    assert alone("ps").stderr == ""
    alone("daemon", "stop")


def test_the_loser_of_a_race_goes_on_with_the_winner(alone: Command) -> None:
    # The winner is still on its way to listen() when the loser says `running`.
    done = staged(alone, "say('running 1\\n'); time.sleep(0.3); fake = serve(); last()")("ps")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_line_is_the_error(alone: Command) -> None:
    done = staged(alone, "say('open /x: permission denied\\n')")("ps")
    assert done.returncode == 1
    assert done.stderr == "asyncrt: start the supervisor: open /x: permission denied\n"
    assert alone("run", "host:", "true").returncode == 125


def test_death_without_a_word_shows_the_end_of_its_log(alone: Command, tmp_path: Path) -> None:
    done = staged(alone, "raise RuntimeError('no such luck')")("ps")
    assert done.returncode == 1
    log = tmp_path / "state" / "daemon.log"
    assert done.stderr == f"asyncrt: start the supervisor: RuntimeError: no such luck (see {log})\n"


def test_silence_has_a_deadline(alone: Command) -> None:
    begin = time.monotonic()
    done = staged(alone, "time.sleep(60)", deadline=0.7)("ps")
    assert done.returncode == 1
    assert "not ready after" in done.stderr
    assert time.monotonic() - begin < 5


def test_ready_but_deaf_has_a_deadline(alone: Command) -> None:
    done = staged(alone, "say('ready 1\\n')", deadline=0.5)("ps")
    assert done.returncode == 1
    assert "nobody listens at" in done.stderr


@pytest.mark.parametrize("blocked", ["state", "state/daemon.log"])
def test_a_state_directory_that_cannot_be(alone: Command, tmp_path: Path, blocked: str) -> None:
    place = tmp_path / blocked
    if blocked == "state":
        place.write_text("a file")
    else:
        place.mkdir(parents=True)
    done = alone("ps")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(place) in done.stderr
    assert "choose another with --state" in done.stderr


def test_the_console_script_becomes_the_daemon(alone: Command, tmp_path: Path) -> None:
    script = (
        "import os, sys; os.execve = lambda *argv: (print(*argv[1]), sys.exit(0))\n"
        "from asyncrt.cli.main import main; sys.exit(main())"
    )
    alone.argv = [alone.argv[0], "-c", script]
    words = alone("--state", "/x", "daemon", "--ready-fd", "5").stdout.split()
    places = ["--root", f"{tmp_path}/root", "--state", "/x", "--socket", f"{tmp_path}/s"]
    assert words[1:] == ["-m", "asyncrt", *places, "daemon", "--ready-fd", "5"]
    assert alone("daemon", "--foreground").stdout.split()[-1] == "daemon"


def test_a_supervisor_is_found_from_any_directory(alone: Command, tmp_path: Path) -> None:
    script = "from asyncrt.sdk.door import environment; print(environment()['PYTHONPATH'])"
    shell = f'{alone.argv[0]} -c "{script}"'
    env = {**alone.env, "PYTHONPATH": "."}
    shown = subprocess.run(["sh", "-c", shell], cwd=PROJECT, env=env, capture_output=True, text=True, check=True)
    assert shown.stdout.split(":")[0] == str(PROJECT)
