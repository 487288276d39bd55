"""asyncrt run in its three shapes: attached, detached, a crowd; and what may go wrong in the middle."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncrt.model import protocol
from tests.asyncrt.cli.conftest import Command
from tests.asyncrt.fake_supervisor import FakeSupervisor

Until = Callable[[Callable[[], object]], None]


def running(fake: FakeSupervisor) -> int:
    return sum(container.record.state == "running" for container in list(fake.containers.values()))


def test_streams_and_exit_code(asyncrt: Command) -> None:
    done = asyncrt("run", "host:", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_stdin_only_with_i(asyncrt: Command) -> None:
    assert asyncrt("run", "-i", "host:", "cat", input=b"x" * 300_000).stdout == "x" * 300_000
    assert asyncrt("run", "host:", "cat", input=b"not fed").stdout == ""


def test_much_output_comes_whole_into_pipe_file_and_appended_file(asyncrt: Command, tmp_path: Path) -> None:
    words = ("run", "host:", "sh", "-c", "seq 200000")
    whole = "".join(f"{n}\n" for n in range(1, 200_001))
    assert asyncrt(*words).stdout == whole
    for mode, times in (("wb", 1), ("ab", 2)):
        with (tmp_path / "out").open(mode) as out:
            assert asyncrt.into(out, *words).returncode == 0
        assert (tmp_path / "out").read_text() == whole * times


def test_a_non_blocking_stdout_loses_nothing(asyncrt: Command) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    process = asyncrt.popen("run", "host:", "sh", "-c", "seq 100000", stdout=write_end)
    os.close(write_end)
    time.sleep(0.5)
    with open(read_end, "rb") as pipe:
        assert pipe.read().split()[-1] == b"100000"
    assert process.wait(10) == 0
    process.communicate()


@pytest.mark.parametrize(
    ("image", "code", "line"),
    [("absent:", 127, "start box1: executable not found"), ("missing:", 125, "run image missing:: no such")],
)
def test_what_does_not_start(asyncrt: Command, image: str, code: int, line: str) -> None:
    for extra in ([], ["-d"], ["--count", "3"] if image == "missing:" else ["--rm"]):
        done = asyncrt("run", *extra, "--name", "box1", image, "x")
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(f"asyncrt: {line}")
        assert done.stderr.count("\n") == 1
        asyncrt("rm", "box1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_reach_the_container(
    asyncrt: Command, fake: FakeSupervisor, until: Until, number: signal.Signals
) -> None:
    with asyncrt.popen("run", "host:", "sh", "-c", "echo up; exec sleep 60") as process:
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        until(lambda: running(fake))
        process.send_signal(number)
        assert process.wait(10) == 128 + number
    assert fake.of(protocol.Kill)[0].signal == number


def test_a_signal_before_the_start_is_kept(asyncrt: Command, fake: FakeSupervisor, until: Until) -> None:
    fake.slow = 0.5
    with asyncrt.popen("run", "host:", "sleep", "60") as process:
        until(lambda: fake.of(protocol.Run))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143


def test_the_third_interrupt_leaves(asyncrt: Command, fake: FakeSupervisor, until: Until) -> None:
    script = "trap '' INT TERM; echo up; while :; do sleep 1; done"
    with asyncrt.popen("run", "--name", "deaf", "host:", "sh", "-c", script) as process:
        assert process.stdout
        process.stdout.readline()
        for n in (1, 2, 3):
            process.send_signal(signal.SIGINT)
            until(lambda n=n: len(fake.of(protocol.Kill)) >= min(n, 2))
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (
        130,
        b"asyncrt: left deaf running (see it with: asyncrt logs -f deaf)\n",
    )


def test_a_closed_stdout_ends_the_command_and_not_the_container(asyncrt: Command, fake: FakeSupervisor) -> None:
    with asyncrt.popen("run", "host:", "sh", "-c", "while :; do echo y; sleep 0.01; done") as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 141
    assert running(fake) == 1


def test_a_full_disk_is_said_and_the_container_ends_as_it_would(asyncrt: Command) -> None:
    for script, code in (("seq 100000", 1), ("seq 100000; exit 4", 4)):
        with open("/dev/full", "wb") as full:
            done = asyncrt.into(full, "run", "host:", "sh", "-c", script)
        assert (done.returncode, done.stderr) == (code, b"asyncrt: write stdout: no space left on device\n")


def test_a_supervisor_that_dies_costs_neither_output_nor_exit_code(asyncrt: Command, fake: FakeSupervisor) -> None:
    with asyncrt.popen("run", "host:", "sh", "-c", "echo one; sleep 0.5; echo two; exit 9") as process:
        assert process.stdout
        assert process.stdout.readline() == b"one\n"
        fake.vanish()
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (9, b"two\n", b"")


def test_pipes_that_were_lost_with_the_supervisor_are_made_good(asyncrt: Command, fake: FakeSupervisor) -> None:
    fake.lose_attach = 1
    fake.before["wait"] = lambda: (fake.before.clear(), fake.vanish())[1]
    done = asyncrt("run", "host:", "sh", "-c", "echo one; echo err >&2; sleep 0.3; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, "one\n", "err\n")


def test_a_supervisor_that_dies_before_the_start(asyncrt: Command, fake: FakeSupervisor) -> None:
    fake.slow = 30.0
    with asyncrt.popen("run", "--name", "web", "host:", "true") as process:
        while not fake.containers:
            time.sleep(0.01)
        time.sleep(0.3)
        for container in fake.containers.values():
            container._ended = {"stdout", "stderr"}
            for fds in container._subscribers.values():
                while fds:
                    os.close(fds.pop())
        fake.vanish()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 125
    assert err.startswith(b"asyncrt: start web: the supervisor went away before it was started")


def test_detached_prints_each_id(asyncrt: Command, fake: FakeSupervisor) -> None:
    done = asyncrt("run", "-d", "--count", "5", "--name", "job", "host:", "sleep", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == list(fake.containers)


def test_detached_with_failures(asyncrt: Command) -> None:
    done = asyncrt("run", "-d", "--count", "6", "broken:", "sleep", "60")
    assert done.returncode == 127
    assert len(done.stdout.split()) == 4
    assert done.stderr.count("executable not found") == 2


def test_a_crowd(asyncrt: Command, fake: FakeSupervisor) -> None:
    script = 'echo "out"; echo err >&2; printf part'
    done = asyncrt("run", "--rm", "--count", "20", "--name", "job", "host:", "sh", "-c", script)
    assert done.returncode == 0
    lines = {f"job-{n} | {word}" for n in range(1, 21) for word in ("out", "part")}
    assert sorted(done.stdout.splitlines()) == sorted(lines)
    errors = done.stderr.splitlines()
    assert {line for line in errors if " | " in line} == {f"job-{n} | err" for n in range(1, 21)}
    assert any(line.startswith("asyncrt: 20 of 20 started, 0 running, 20 ended, 0 failed") for line in errors)
    assert errors[-1].split()[0] == "total"
    assert [line.split()[0] for line in errors[-6:-1]] == ["phase", "queue", "zygote", "mounts", "exec"]
    assert not fake.containers
    assert "\x1b" not in done.stderr


def test_a_crowd_returns_the_first_code_by_index(asyncrt: Command) -> None:
    script = "case $N in *) :;; esac; echo $$ >/dev/null; exit 5"
    assert asyncrt("run", "--count", "3", "host:", "sh", "-c", script).returncode == 5
    done = asyncrt("run", "--count", "3", "broken:", "true")
    assert done.returncode == 127
    assert "2 ended, 1 failed" in done.stderr


def test_a_crowd_outlives_its_supervisor(asyncrt: Command, fake: FakeSupervisor, until: Until) -> None:
    script = "echo one; sleep 1; echo two; exit 0"
    with asyncrt.popen("run", "--count", "10", "--name", "job", "host:", "sh", "-c", script) as process:
        until(lambda: len(fake.of(protocol.Attach)) == 10)
        fake.vanish()
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    expected = {f"job-{n} | {word}" for n in range(1, 11) for word in ("one", "two")}
    assert sorted(out.decode().splitlines()) == sorted(expected)


def test_subscriptions_that_were_lost_are_made_again(asyncrt: Command, fake: FakeSupervisor) -> None:
    fake.lose_attach = 2
    done = asyncrt("run", "--count", "4", "--name", "job", "host:", "sh", "-c", "echo one; sleep 0.2")
    assert sorted(done.stdout.splitlines()) == [f"job-{n} | one" for n in range(1, 5)]


def test_signals_reach_the_whole_crowd(asyncrt: Command, fake: FakeSupervisor, until: Until) -> None:
    with asyncrt.popen("run", "--count", "5", "host:", "sleep", "60") as process:
        until(lambda: len(fake.of(protocol.Attach)) == 5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 143


def on_a_terminal(command: Command, *words: str, columns: int = 80) -> tuple[int, str]:
    """Exit code, and what a terminal got, with stdout and stderr on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = command.popen(*words, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(10), shown.decode()


def test_the_picture_on_a_terminal(asyncrt: Command, fake: FakeSupervisor) -> None:
    fake.slow = 0.02
    code, shown = on_a_terminal(asyncrt, "run", "-d", "--count", "30", "host:", "sleep", "60")
    assert code == 0
    assert "30/30" in shown
    assert shown.count("●") >= 8
    assert "\x1b[?25l" not in shown
    assert all(id in shown for id in fake.containers)
    assert shown.rstrip().rsplit("\r\n", 1)[1].lstrip("\x1b[0m1 ").startswith("total")


def test_no_color(asyncrt: Command) -> None:
    asyncrt.env["NO_COLOR"] = "1"
    _, shown = on_a_terminal(asyncrt, "run", "--rm", "--count", "3", "host:", "true")
    assert "3/3" in shown
    assert "m━" not in shown
    assert "\x1b[3" not in shown


def test_a_terminal_is_not_handed_into_a_container(asyncrt: Command) -> None:
    asyncrt("run", "-d", "--name", "web", "host:", "sleep", "60")
    script = "for n in 1 2; do readlink /proc/self/fd/$n; done; exit 3"
    code, shown = on_a_terminal(asyncrt, "exec", "web", "sh", "-c", script)
    assert code == 3
    assert shown.count("pipe:[") == 2


def test_closed_standard_streams_do_not_mix(asyncrt: Command) -> None:
    words = " ".join(["run", "host:", "sh", "-c", "'echo out; exit 3'"])
    for closed in ("<&-", "2>&-", "<&- 2>&-"):
        shell = f"{' '.join(asyncrt.argv)} {words} {closed}"
        done = subprocess.run(["sh", "-c", shell], env=asyncrt.env, capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (3, b"out\n")
