"""Further processes in a running container."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shimd.wire.messages import Done, Exec, ExecEnded, ExecFailed, ExecStarted, Refusal
from tests.shimd.configs import config, process_of, shell
from tests.shimd.line import alive, gone, read_all, until
from tests.shimd.stage import Container, Stage, opened

pytestmark = pytest.mark.root


@pytest.fixture
def box(stage: Stage) -> Container:
    """A container that sleeps."""
    return stage.start(config("sleep", "60"))


def test_code_and_streams(box: Container) -> None:
    out, err = box.exec("e1", process_of("sh", "-c", "echo out; echo err >&2; exit 9"))
    started = box.expect(ExecStarted)
    assert started.exec == "e1"
    assert (read_all(out), read_all(err)) == (b"out\n", b"err\n")
    ended = box.expect(ExecEnded)
    assert (ended.exec, ended.record.code, ended.record.signal) == ("e1", 9, 0)
    assert ended.record.started_ns <= ended.record.ended_ns
    assert box.query().execs == []


def test_stdin(box: Container) -> None:
    read, write = os.pipe()
    out, _ = box.exec("cat", process_of("cat"), stdin=read)
    os.close(read)
    os.write(write, b"through")
    os.close(write)
    assert read_all(out) == b"through"
    assert box.expect(ExecEnded).record.code == 0


def test_it_is_where_init_is(box: Container) -> None:
    kinds = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    script = f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done"
    out, _ = box.exec("ns", process_of("sh", "-c", script))
    theirs = [os.readlink(f"/proc/{box.pid}/ns/{kind}") for kind in kinds]
    assert read_all(out).decode().split() == theirs


def test_it_is_in_the_containers_cgroups(box: Container, stage: Stage) -> None:
    box.exec("sleeper", process_of("sleep", "60"))
    pid = box.expect(ExecStarted).pid
    for hierarchy in stage.hierarchies:
        if "pids" in hierarchy.controllers:
            with open(f"{hierarchy.mount}{box.cgroup}/cgroup.procs") as file:
                assert sorted(map(int, file)) == sorted([box.pid, pid])


def test_user_cwd_and_env_are_its_own(box: Container) -> None:
    process = process_of(
        *("sh", "-c", "id -u; id -g; id -G; pwd; echo $WORD; umask"),
        user={"uid": 1000, "gid": 1000, "additionalGids": [50], "umask": 0o27},
        cwd="/home/app",
        env=["PATH=/bin", "WORD=mine"],
    )
    out, _ = box.exec("as-app", process)
    said = read_all(out).decode().splitlines()
    assert said == ["1000", "1000", "1000 50", "/home/app", "mine", "0027"]


def test_it_can_open_its_stdout_by_name(box: Container) -> None:
    out, _ = box.exec("x", process_of("sh", "-c", "echo again >/dev/stdout", user={"uid": 1000, "gid": 1000}))
    assert read_all(out) == b"again\n"


@pytest.mark.parametrize(
    ("command", "code", "word"),
    [
        ("no-such-program", 127, "no such file"),
        ("notexec", 126, "permission denied"),
        ("garbage", 126, "exec format error"),
    ],
)
def test_what_cannot_be_run(box: Container, command: str, code: int, word: str) -> None:
    out, _ = box.exec("bad", process_of(command))
    failed = box.expect(ExecFailed)
    assert (failed.exec, failed.trouble.code) == ("bad", code)
    assert word in str(failed.trouble)
    assert read_all(out) == b""
    assert box.query().state == "running"


@pytest.mark.parametrize(
    ("process", "word"),
    [
        ({}, "cwd"),
        ({"cwd": "relative", "args": ["true"]}, "cwd"),
        ({"cwd": "/", "args": []}, "args"),
        ({"cwd": "/", "args": ["true"], "user": {"uid": -1, "gid": 0}}, "uid"),
    ],
)
def test_a_process_that_is_none(box: Container, process: dict[str, object], word: str) -> None:
    box.exec("odd", process)
    assert word in str(box.expect(ExecFailed).trouble)
    assert box.query().state == "running"


def test_a_cwd_that_is_missing(box: Container) -> None:
    box.exec("lost", process_of("true", cwd="/no/such/place"))
    trouble = box.expect(ExecFailed).trouble
    assert str(trouble) == "chdir to /no/such/place: no such file or directory"


def test_kill(box: Container) -> None:
    box.exec("sleeper", process_of("sleep", "60"))
    box.expect(ExecStarted)
    assert box.query().execs == ["sleeper"]
    assert isinstance(box.kill(15, exec="sleeper"), Done)
    record = box.expect(ExecEnded).record
    assert (record.code, record.signal) == (143, 15)
    answer = box.kill(15, exec="sleeper")
    assert isinstance(answer, Refusal)
    assert str(answer.trouble) == "kill exec sleeper: it is not running"


def test_kill_where_none_ever_was(box: Container) -> None:
    answer = box.kill(15, exec="nobody")
    assert isinstance(answer, Refusal)
    assert answer.trouble.code == 127


def test_several_at_once(box: Container) -> None:
    outs = [box.exec(f"e{n}", process_of("sh", "-c", f"sleep 0.1; echo {n}; exit {n}"))[0] for n in range(5)]
    assert [read_all(out) for out in outs] == [b"%d\n" % n for n in range(5)]
    codes = {message.exec: message.record.code for message in (box.expect(ExecEnded) for _ in outs)}
    assert codes == {f"e{n}": n for n in range(5)}


def test_they_end_with_the_container(box: Container) -> None:
    out, _ = box.exec("sleeper", process_of("sleep", "60"))
    pid = box.expect(ExecStarted).pid
    box.kill()
    assert box.expect(ExecEnded).record.signal == 9
    assert box.ended().record.signal == 9
    assert read_all(out) == b""
    assert not alive(pid)


def test_they_end_with_a_container_without_pids_of_its_own(stage: Stage) -> None:
    box = stage.start(config("sleep", "60", namespaces=["mount", "network"]))
    box.exec("sleeper", process_of("sleep", "60"))
    pid = box.expect(ExecStarted).pid
    box.kill()
    assert box.expect(ExecEnded).record.signal == 9
    box.ended()
    assert gone(pid)


def test_refused_once_the_container_ended(stage: Stage) -> None:
    # A reader that does not read keeps the shim.
    box = stage.start(shell("yes | head -c 1000000; exit 5"))
    box.attach(stdout=0)
    assert box.ended().record.code == 5
    null = os.open("/dev/null", os.O_RDWR)
    answer = box.ask(lambda seq: Exec(seq, "late", process_of("true")), [null] * 3)
    os.close(null)
    assert isinstance(answer, Refusal)
    assert "it is stopped" in str(answer.trouble)


def test_refused_without_its_fds(box: Container) -> None:
    assert isinstance(box.ask(lambda seq: Exec(seq, "bare", process_of("true"))), Done)
    assert "3 fds are needed" in str(box.expect(ExecFailed).trouble)


def test_a_dying_shim_takes_them_along(box: Container) -> None:
    box.exec("sleeper", process_of("sleep", "60"))
    pid = box.expect(ExecStarted).pid
    os.kill(box.shim_pid, 9)
    assert gone(pid)
    assert gone(box.pid)


def test_nothing_of_the_shim_is_open_inside(box: Container) -> None:
    out, _ = box.exec("ls", process_of("ls", "/proc/self/fd"))
    assert read_all(out).split() == [b"0", b"1", b"2", b"3"]


def session_keyring() -> str:
    """A program that says its session keyring's number (keyctl(2), KEYCTL_GET_KEYRING_ID)."""
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    return f"import ctypes; print(ctypes.CDLL(None).syscall({number}, 0, -3, 0))"


def test_the_machines_session_keyring_stays_outside(stage: Stage) -> None:
    """Neither init nor an exec searches what the supervisor's session holds (keyrings(7))."""
    python = os.path.realpath(sys.executable)
    words = [python, "-I", "-S", "-c", session_keyring()]
    ours = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    with opened(Path("/")) as machine:
        box = machine.start(config(python, "-u", "-S", "-c", f"{session_keyring()}; import time; time.sleep(60)"))
        assert until(lambda: container_said(box))
        out, _ = box.exec("keys", process_of(*words))
        assert ours not in (container_said(box), read_all(out).decode().strip())


def container_said(box: Container) -> str:
    return box.log("stdout").decode().strip()
