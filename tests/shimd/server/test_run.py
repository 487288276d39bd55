"""A container from start to end: codes, signals, streams, the record, what is left."""

import os
import select
import struct
import time
from pathlib import Path

import pytest

from shimd.wire import channel
from shimd.wire.codec import unpack_record
from shimd.wire.messages import Done, Ended, Refusal, RootMount, Spawn
from tests.shimd.configs import config, shell
from tests.shimd.line import gone
from tests.shimd.stage import Container, Stage, StartFailed

pytestmark = pytest.mark.root
INDEX = struct.Struct("<QIB3x")


def failure(stage: Stage, *args: object, **kwargs: object) -> tuple[StartFailed, Container]:
    """A start that must fail and leave nothing."""
    with pytest.raises(StartFailed) as caught:
        stage.start(*args, **kwargs)  # type: ignore[arg-type]
    container = stage.containers[-1]
    assert container.gone() == []
    assert stage.left_of(container) == []
    assert container.log("exit") == b""
    return caught.value, container


def test_code_and_streams(stage: Stage) -> None:
    before = time.time_ns()
    container = stage.start(shell("echo out; echo err >&2; echo more; exit 7"))
    started = container.started()
    record = container.ended().record
    assert (record.code, record.signal, record.core, record.lost, record.failed) == (7, 0, False, "", "")
    assert before <= record.started_ns <= record.ended_ns <= time.time_ns()
    assert started.started_ns == record.started_ns
    assert container.log("stdout") == b"out\nmore\n"
    assert container.log("stderr") == b"err\n"
    assert (record.stdout_bytes, record.stderr_bytes) == (9, 4)
    assert record.cpu_ns > 0
    assert record.memory_peak > 0
    assert record.oom_kills == 0
    assert container.gone() == []
    assert stage.left_of(container) == []
    assert gone(started.shim_pid)


def test_the_record_is_on_disk_before_it_is_announced(stage: Stage) -> None:
    container = stage.start(shell("exit 3"))
    announced = container.ended().record
    assert unpack_record(container.log("exit")) == announced


def test_a_silent_container_has_no_log_files(stage: Stage) -> None:
    container = stage.run(config("true"))
    assert sorted(path.name for path in container.directory.iterdir()) == ["exit"]


def test_the_index_tells_the_order_of_arrival(stage: Stage) -> None:
    before = time.time_ns()
    container = stage.run(shell("echo 1; sleep 0.05; echo 22 >&2; sleep 0.05; echo 333"))
    entries = list(INDEX.iter_unpack(container.log("index")))
    assert [entry[1:] for entry in entries] == [(2, 1), (3, 2), (4, 1)]
    times = [entry[0] for entry in entries]
    assert before < times[0] < times[1] < times[2] < time.time_ns()


def test_the_timeline_names_its_phases_in_order(stage: Stage) -> None:
    before = time.monotonic_ns()
    timeline = stage.start(config("true")).started().timeline
    phases = [name for name, _ in timeline]
    assert phases == ["queue", "zygote", "cgroup", "namespaces", "mounts", "exec"]
    stamps = [stamp for _, stamp in timeline]
    assert before < stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] < time.monotonic_ns()


@pytest.mark.parametrize("signal", [9, 15, 6])
def test_kill(stage: Stage, signal: int) -> None:
    # As pid 1 of its namespace it gets no signal that it has no handler for, but SIGKILL.
    script = f"trap 'exit 40' {signal}; echo ready; while :; do sleep 0.01; done" if signal != 9 else "sleep 60"
    container = stage.start(shell(script))
    if signal != 9:
        [out] = container.attach(stdout=0)
        assert os.read(out, 6) == b"ready\n"
    assert isinstance(container.kill(signal), Done)
    record = container.ended().record
    assert (record.code, record.signal) == ((137, 9) if signal == 9 else (40, 0))


def test_a_signal_that_kills_is_in_the_record(stage: Stage) -> None:
    plain = ["mount", "network", "ipc", "uts", "cgroup"]
    container = stage.start(config("sleep", "60", namespaces=plain))
    container.kill(15)
    record = container.ended().record
    assert (record.code, record.signal) == (143, 15)


@pytest.mark.parametrize("signal", [0, 65, 999, -1])
def test_kill_with_no_signal_of_this_kernel(stage: Stage, signal: int) -> None:
    container = stage.start(config("sleep", "60"))
    answer = container.kill(signal)
    if signal:
        assert isinstance(answer, Refusal)
        assert "invalid argument" in str(answer.trouble)
    assert container.query().state == "running"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-program", 127, ["no-such-program", "no such file or directory", "PATH"]),
        ("/no/such/program", 127, ["/no/such/program", "no such file or directory"]),
        ("", 127, ["empty"]),
        ("nointerp", 127, ["nointerp", "interpreter"]),
        ("notexec", 126, ["notexec", "permission denied"]),
        ("/bin/notexec", 126, ["/bin/notexec", "permission denied"]),
        ("/etc", 126, ["/etc", "permission denied"]),
        ("/etc/passwd/x", 127, ["/etc/passwd/x"]),
        ("noshebang", 126, ["noshebang", "exec format error"]),
        ("garbage", 126, ["garbage", "exec format error"]),
    ],
)
def test_what_cannot_be_run(stage: Stage, command: str, code: int, words: list[str]) -> None:
    error, _ = failure(stage, config(command))
    assert error.trouble.code == code
    assert not [word for word in words if word not in str(error)], str(error)
    assert "bug" not in str(error)


def test_a_program_further_down_the_path(stage: Stage) -> None:
    document = config("sh", "-c", "echo $PATH", process={"env": ["PATH=/etc/passwd:/no/such:/etc:/bin"]})
    assert stage.output(document) == "/etc/passwd:/no/such:/etc:/bin\n"


def test_env_of_template_and_spawn(stage: Stage) -> None:
    document = config("env", process={"env": ["PATH=/bin", "A=1", "B=x=y", "C="]})
    said = stage.output(document, env=["A=2", "D=é"]).splitlines()
    assert sorted(said) == ["A=2", "B=x=y", "C=", "D=é", "PATH=/bin"]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"destination": "/x", "type": "nosuchfs", "source": "none"}, ["mount nosuchfs on /x", "no such device"]),
        (
            {"destination": "/x", "type": "tmpfs", "source": "t", "options": ["flavour=sweet"]},
            ["mount tmpfs on /x", "flavour"],
        ),
        (
            {"destination": "/x", "type": "bind", "source": "/no/such/place", "options": ["bind"]},
            ["bind /no/such/place on /x", "no such file"],
        ),
        (
            {"destination": "/bin", "type": "bind", "source": "/etc/passwd", "options": ["bind"]},
            ["bind /etc/passwd on /bin"],
        ),
        ({"destination": "/etc/passwd", "type": "tmpfs", "source": "t"}, ["mount tmpfs on /etc/passwd"]),
    ],
)
def test_a_mount_that_fails_is_named(stage: Stage, mount: dict[str, object], words: list[str]) -> None:
    mounts_before = Path("/proc/self/mountinfo").read_text()
    error, _ = failure(stage, config("true", mounts=[mount]))
    assert error.trouble.code == 125
    assert not [word for word in words if word not in str(error)], str(error)
    assert Path("/proc/self/mountinfo").read_text() == mounts_before


def test_a_root_that_is_missing(stage: Stage) -> None:
    container = stage.prepare()
    stage.spawn(container, stage.template(config("true")), root=[RootMount("bind", ["/no/such/root"])])
    with pytest.raises(StartFailed, match="mount the root file system: no such file or directory"):
        container.started()
    assert container.gone() == []
    assert stage.left_of(container) == []


def test_a_template_that_nobody_sent(stage: Stage) -> None:
    """The spawn comes back with its fds: its plan may have been compiled after this shim was forked."""
    container = stage.prepare()
    stage.spawn(container, "no-such-key")
    poll = select.poll()
    poll.register(stage.spawns.fileno(), select.POLLIN)
    assert poll.poll(10_000)
    received = channel.receive(stage.spawns)
    assert received is not None
    message, fds = received
    channel.close_all(fds)
    assert isinstance(message, Spawn)
    assert (message.id, message.template, len(fds)) == (container.id, "no-such-key", 1)
    assert stage.left_of(container) == []


def test_an_id_that_lives(stage: Stage) -> None:
    first = stage.start(config("sleep", "60"))
    second = stage.prepare()
    stage.spawn(second, stage.template(config("true")), id=first.id, cgroup=first.cgroup)
    with pytest.raises(StartFailed, match=r"bind socket of shim .*: address already in use"):
        second.started()
    assert first.query().state == "running"
    assert len(stage.left_of(first)) > 1


def test_a_cgroup_that_is_there_stays(stage: Stage) -> None:
    first = stage.start(config("sleep", "60"))
    second = stage.prepare()
    stage.spawn(second, stage.template(config("true")), cgroup=first.cgroup)
    with pytest.raises(StartFailed, match=r"create cgroup in .*: file exists"):
        second.started()
    assert stage.left_of(second) == []
    first.kill()
    assert first.ended().left == []


def test_standing_while_it_runs(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    standing, started = container.query(), container.started()
    assert (standing.id, standing.state, standing.record, standing.execs) == (container.id, "running", None, [])
    assert (standing.pid, standing.shim_pid) == (started.pid, started.shim_pid)
    assert (standing.started_ns, standing.timeline) == (started.started_ns, started.timeline)


def test_ended_is_said_once(stage: Stage) -> None:
    container = stage.run(config("true"))
    container.gone()
    assert sum(isinstance(message, Ended) for message in container.heard) == 1


def test_oom_kills_are_counted(stage: Stage) -> None:
    limits = {"memory": {"limit": 8 << 20}}
    script = "head -c 64m /dev/zero | tail -c 64m >/dev/null; echo end $?"
    container = stage.run(shell(script, linux={"resources": limits}))
    record = container.heard[-1]
    assert isinstance(record, Ended)
    assert record.record.oom_kills >= 1
    assert record.record.memory_peak <= 8 << 20
