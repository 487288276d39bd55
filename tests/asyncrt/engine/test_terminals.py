"""Terminals, half-closes, execs that outlive their callers, logs in every form: through the API, as a client does."""

import contextlib
import fcntl
import json
import os
import select
import struct
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from asyncrt.errors import BadRequest, Conflict, StartFailed
from asyncrt.model.container import Exit
from asyncrt.model.options import LEAST_LOG, ExecOptions, Options
from asyncrt.model.protocol import (
    FROM_NOW,
    NOT_THIS,
    OLDEST,
    Attach,
    CloseStdin,
    Exec,
    KillExec,
    Progress,
    Resize,
    Run,
    Start,
    WaitExec,
)
from asyncrt.sdk.answer import Answer, close_all, typed
from asyncrt.sdk.blocking import Client, exit_of
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


@pytest.fixture
def client(shared: Engine) -> Iterator[Client]:
    shared.cli("info", check=True)  # a supervisor
    with Client(str(shared.socket), timeout=30) as made:
        yield made


@contextlib.contextmanager
def pipes(count: int) -> Iterator[list[tuple[int, int]]]:
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(count)]
    open_ones = {fd for pair in ends for fd in pair}
    try:
        yield ends
    finally:
        for fd in open_ones:
            with contextlib.suppress(OSError):
                os.close(fd)


def read_all(fd: int, seconds: float = 20) -> bytes:
    """Until its end, which for a terminal's master is EIO."""
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        assert poll.poll(seconds * 1000), f"no end within {seconds} s: {found[-100:]!r}"
        try:
            data = os.read(fd, 65536)
        except OSError:
            return found
        if not data:
            return found
        found += data


def read_exactly(fd: int, size: int) -> bytes:
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(found) < size:
        assert poll.poll(20_000), f"{found!r}, and no more"
        data = os.read(fd, size - len(found))
        assert data, f"{found!r}, and its end"
        found += data
    return found


def run(client: Client, options: Options, fds: list[int], once: bool = False) -> Answer:
    """Attached; what it becomes is in the answer's Progress."""
    return client.call(Run(options, 1, True, once), fds)


def exit_from(answer: Answer) -> Exit:
    steps = [typed(value, Progress) for value, _ in answer]
    assert steps[-1].step == "ended", steps
    assert steps[-1].exit is not None
    return steps[-1].exit


def id_of(answer: Answer) -> str:
    """Wait until it runs."""
    for value, _ in answer:
        step = typed(value, Progress)
        if step.step == "started":
            return step.id
    raise AssertionError("it was never started")


def test_run_with_a_terminal(client: Client, image: str) -> None:
    script = "stty size; echo $TERM; read word; echo got $word; exit 3"
    options = Options(image, ("sh", "-c", script), tty=True, stdin=True, rows=30, columns=100)
    with pipes(2) as [(stdin, pen), (shown, stdout)]:
        answer = run(client, options, [stdin, stdout])
        close_all((stdin, stdout))
        greeting = b"30 100\r\nxterm\r\n"
        assert read_exactly(shown, len(greeting)) == greeting
        os.write(pen, b"hello\n")
        assert exit_from(answer).code == 3
        assert read_all(shown) == b"hello\r\ngot hello\r\n"


def test_a_terminal_is_resized_and_read_by_two(client: Client, image: str) -> None:
    options = Options(
        image, ("sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"), tty=True
    )
    with pipes(3) as [(shown, stdout), (second, second_out), (third, third_out)]:
        answer = run(client, options, [stdout])
        id = id_of(answer)
        client.call(Attach(id, stdout=0, stderr=0), [second_out, third_out]).result()
        close_all((stdout, second_out, third_out))
        ready = read_exactly(shown, 7)
        client.call(Resize(id, 41, 99)).result()
        found = ready + read_all(shown)
        assert found.endswith(b"41 99\r\n")
        assert read_all(second) == found
        assert read_all(third) == b""
        assert exit_from(answer).code == 0
    with pytest.raises(Conflict, match="it is not running"):
        client.call(Resize(id, 41, 99)).result()


def test_stdin_stays_open_for_the_next_one(client: Client, image: str) -> None:
    [created] = client.create(Options(image, ("cat",), stdin=True))
    list(client.start([created.id]))
    for word in (b"one\n", b"two\n"):
        with pipes(1) as [(stdin, pen)]:
            client.call(Attach(created.id, True, NOT_THIS, NOT_THIS), [stdin]).result()
            os.close(stdin)
            os.write(pen, word)
            os.close(pen)
    client.call(CloseStdin(created.id)).result()
    assert client.wait([created.id])[0].exit == client.inspect([created.id])[0].exit
    files = client.logs(created.id)
    assert os.pread(files["stdout"], 100, 0) == b"one\ntwo\n"
    close_all(files.values())
    with pytest.raises(Conflict, match="it is not running"):
        client.call(CloseStdin(created.id)).result()


def test_start_attached_shows_this_run_alone(client: Client, image: str) -> None:
    [created] = client.create(Options(image, ("sh", "-c", "echo run; exit 4")))
    for _ in range(2):
        with pipes(2) as [(out, stdout), (err, stderr)]:
            answer = client.call(Start((created.id,), True), [stdout, stderr])
            close_all((stdout, stderr))
            assert exit_from(answer).code == 4
            assert (read_all(out), read_all(err)) == (b"run\n", b"")


def test_exec_with_a_terminal(client: Client, image: str) -> None:
    [started] = [step for step in client.run(Options(image, ("sleep", "60"))) if step.step == "started"]
    answer = client.call(Exec(started.id, ExecOptions(("sh", "-c", "stty size; read x; exit 5"), tty=True, rows=20)))
    value, [master] = next(answer)
    assert struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (20, 0)
    client.call(Resize(started.id, 50, 60, value["exec"])).result()
    assert struct.unpack("HHHH", fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2] == (50, 60)
    os.write(master, b"\n")
    assert read_all(master).endswith(b"\r\n")
    os.close(master)
    assert exit_of(answer).code == 5
    with pytest.raises(BadRequest, match="0 fds are needed, 1 came"):
        client.call(Exec(started.id, ExecOptions(("true",), tty=True)), [0]).result()


def execute(client: Client, id: str, *args: str) -> tuple[Answer, str]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    answer = client.call(Exec(id, ExecOptions(args)), [null] * 3)
    os.close(null)
    value, _ = next(answer)
    return answer, value["exec"]


def test_an_exec_outlives_caller_and_supervisor(engine: Engine, image: str) -> None:
    engine.cli("run", "-d", "--name", "box", image, "sleep", "600", check=True)
    with Client(str(engine.socket), timeout=30) as first:
        _, done = execute(first, "box", "sh", "-c", "exit 3")
        _, goes_on = execute(first, "box", "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 7")
    with Client(str(engine.socket), timeout=30) as second:
        assert typed(second.call(WaitExec("box", done)).result(), Exit).code == 3
    os.kill(engine.supervisor_pid(), 9)
    until(lambda: engine.cli("info").returncode == 0, "another supervisor")
    with Client(str(engine.socket), timeout=30) as later:
        assert typed(later.call(WaitExec("box", done)).result(), Exit).code == 3
        execute(later, "box", "touch", "/go")[0].result()
        assert typed(later.call(WaitExec("box", goes_on)).result(), Exit).code == 7
        with pytest.raises(Conflict, match="nobody remembers it"):
            later.call(WaitExec("box", "nobody")).result()


def test_kill_of_an_exec(client: Client, image: str) -> None:
    [started] = [step for step in client.run(Options(image, ("sleep", "60"))) if step.step == "started"]
    answer, id = execute(client, started.id, "sleep", "60")
    client.call(KillExec(started.id, id, 15)).result()
    assert exit_of(answer).signal == 15
    with pytest.raises(Conflict, match="it is not running"):
        client.call(KillExec(started.id, id)).result()


def test_exec_of_what_is_not_there(client: Client, image: str) -> None:
    [started] = [step for step in client.run(Options(image, ("sleep", "60"))) if step.step == "started"]
    for tty in (False, True):
        with pytest.raises(StartFailed) as caught:
            client.call(Exec(started.id, ExecOptions(("/no/such",), tty=tty)), [] if tty else [0, 1, 2]).result()
        assert caught.value.code == 127


def ran(client: Client, options: Options) -> str:
    """The id of a container that ran to its end."""
    [created] = client.create(options)
    list(client.start([created.id]))
    client.wait([created.id])
    return created.id


def test_a_bounded_log_tells_what_it_dropped(client: Client, image: str) -> None:
    id = ran(client, Options(image, ("seq", "1", "100000"), log_max_bytes=LEAST_LOG))
    record = client.inspect([id])[0].exit
    assert record is not None
    whole = b"".join(b"%d\n" % number for number in range(1, 100001))
    assert record.stdout_bytes == len(whole)
    with pipes(2) as [(out, stdout), (other, other_out)]:
        with pytest.raises(Conflict, match=r"the log of stdout begins at byte \d+"):
            client.call(Attach(id, stderr=NOT_THIS), [stdout]).result()
        begun = client.call(Attach(id, stdout=OLDEST, stderr=NOT_THIS), [stdout]).result()
        os.close(stdout)
        kept = read_all(out)
        assert whole[begun["stdout"] :] == kept
        assert LEAST_LOG // 8 < len(kept) < LEAST_LOG
        assert client.call(Attach(id, stdout=FROM_NOW, stderr=NOT_THIS), [other_out]).result()["stdout"] == len(whole)
        os.close(other_out)
        assert read_all(other) == b""


@pytest.mark.parametrize(("form", "name"), [("json-file", "json.log"), ("cri", "cri.log")])
def test_a_log_in_anothers_form(shared: Engine, client: Client, image: str, form: Any, name: str) -> None:
    id = ran(client, Options(image, ("sh", "-c", "echo one; echo two >&2; printf three"), log_format=form))
    lines = (shared.root / "containers" / id / name).read_text().splitlines()
    if form == "cri":
        found = {tuple(line.split(" ")[1:]) for line in lines}
        assert found == {("stdout", "F", "one"), ("stderr", "F", "two"), ("stdout", "P", "three")}
    else:
        found = {(entry["stream"], entry["log"]) for entry in map(json.loads, lines)}
        assert found == {("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three")}
    files = client.logs(id)
    assert os.pread(files["stdout"], 100, 0) == b"one\nthree"
    close_all(files.values())


def test_without_a_log_the_stdio_is_the_clients_own(shared: Engine, client: Client, image: str) -> None:
    options = Options(
        image, ("sh", "-c", "readlink /proc/self/fd/1; cat; echo err >&2; exit 6"), log_format="none", stdin=True
    )
    with pipes(3) as [(stdin, pen), (out, stdout), (err, stderr)]:
        own = os.readlink(f"/proc/self/fd/{stdout}")
        answer = run(client, options, [stdin, stdout, stderr])
        close_all((stdin, stdout, stderr))
        id = id_of(answer)
        for deed in (lambda: client.logs(id), lambda: client.call(Attach(id, stderr=NOT_THIS), [pen]).result()):
            with pytest.raises(Conflict, match="it keeps no"):
                deed()
        os.write(pen, b"through\n")
        os.close(pen)
        assert read_all(out) == own.encode() + b"\nthrough\n"
        assert read_all(err) == b"err\n"
        assert exit_from(answer).code == 6
    assert not (shared.root / "containers" / id / "stdout").exists()


def test_without_a_log_and_without_a_client(client: Client, image: str) -> None:
    id = ran(client, Options(image, ("sh", "-c", "cat; echo nobody hears; exit 7"), log_format="none"))
    record = client.inspect([id])[0].exit
    assert record is not None
    assert (record.code, record.stdout_bytes) == (7, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tty": True, "log_format": "none"}, "a terminal's output goes through a log"),
        ({"log_max_bytes": 100}, "100 bytes are too few"),
        ({"log_files": 0}, "0 is no count"),
        ({"tty": True, "rows": 70000}, "70000 is no size"),
        ({"tty": True, "columns": -1}, "-1 is no size"),
    ],
)
def test_what_makes_no_sense(client: Client, image: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        list(client.create(Options(image, ("true",), **options)))


@pytest.mark.parametrize("tty", [False, True])
def test_an_exec_may_what_init_may(client: Client, image: str, tty: bool) -> None:
    """Capabilities, seccomp, no_new_privs, ids, cgroups: as the container has them."""
    caps = {"cap_drop": ("CHOWN",), "cap_add": ("SYS_NICE",)}
    options = Options(image, ("sleep", "60"), no_new_privileges=True, user="app", **caps)
    [started] = [step for step in client.run(options) if step.step == "started"]
    wanted = "grep -E '^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups)' /proc/$pid/status"
    script = f"for pid in 1 self; do {wanted}; cat /proc/$pid/cgroup; done"
    words = ("sh", "-c", script)
    if tty:
        answer = client.call(Exec(started.id, ExecOptions(words, tty=True)))
        _, [master] = next(answer)
        said = read_all(master).decode()
        os.close(master)
    else:
        with pipes(1) as [(out, stdout)]:
            answer = client.call(Exec(started.id, ExecOptions(words)), [0, stdout, stdout])
            os.close(stdout)
            said = read_all(out).decode()
    assert exit_of(answer).code == 0
    lines = said.split("\n")[:-1]
    init, own = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert [line.rstrip() for line in own] == [line.rstrip() for line in init]
    assert any(line.split() == ["Seccomp:", "2"] for line in init)
