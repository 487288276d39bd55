"""The client against a fake supervisor: answers, fds, errors, loss of the connection."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.errors import BadRequest, Conflict, NoSuchObject, Unavailable
from asyncrt.model import protocol
from asyncrt.model.options import ExecOptions, Options
from asyncrt.sdk.answer import close_all
from asyncrt.sdk.blocking import Client, exit_of
from tests.asyncrt.fake_supervisor import FakeSupervisor


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSupervisor]:
    with FakeSupervisor(tmp_path / "s") as made:
        yield made


@pytest.fixture
def client(fake: FakeSupervisor) -> Iterator[Client]:
    with Client(fake.path) as made:
        yield made


def sh(script: str, **options: object) -> Options:
    return Options(image="host:", args=("sh", "-c", script), **options)  # type: ignore[arg-type]


def started(client: Client, script: str) -> str:
    """The id of a container that runs (or has run)."""
    return list(client.run(sh(script)))[-1].id


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_run_tells_created_and_started_then_wait_the_exit_code(client: Client) -> None:
    steps = list(client.run(sh("exit 3")))
    assert [step.step for step in steps] == ["created", "started"]
    assert steps[1].timeline[0][0] == "request"
    assert [end.exit.code for end in client.wait([steps[0].id]) if end.exit] == [3]


def test_items_come_as_they_happen_and_the_end_is_the_result(client: Client, fake: FakeSupervisor) -> None:
    answer = client.call(protocol.Run(sh("true"), 3))
    seen = [value["step"] for value, _ in answer]
    assert sorted(seen) == ["created"] * 3 + ["started"] * 3
    assert answer.result() == list(fake.containers)


def test_calls_on_one_connection_do_not_wait_for_each_other(client: Client) -> None:
    first = started(client, "sleep 30")
    waiting = client.call(protocol.Wait((first,)))
    assert client.version()["version"] == "fake"
    assert not waiting.done
    assert [outcome.error for outcome in client.kill([first], signal.SIGKILL)] == [None]
    assert waiting.result()[0]["exit"]["code"] == 137


def test_lists_come_in_chunks_and_are_one(client: Client) -> None:
    made = [step.id for step in client.create(sh("true"), 5)]
    assert [container.id for container in client.containers(all=True)] == made
    assert client.containers() == []
    assert [container.name for container in client.inspect(made[:2])] == ["box-1", "box-2"]


def test_fds_go_out_and_come_back(client: Client) -> None:
    read_end, write_end = os.pipe()
    error_end = os.open(os.devnull, os.O_WRONLY)
    before = open_fds()
    steps = list(client.run(sh("echo to the pipe"), attach=True, fds=[write_end, error_end]))
    close_all([write_end, error_end])
    with open(read_end, "rb") as pipe:
        assert pipe.read() == b"to the pipe\n"
    client.wait([steps[0].id])
    files = client.logs(steps[0].id)
    assert set(files) == {"stdout", "stderr", "index"}
    assert os.read(files["stdout"], 100) == b"to the pipe\n"
    assert not os.get_inheritable(files["stdout"])
    close_all(files.values())
    assert len(open_fds() - before) <= 1


def test_exec_answers_with_pid_and_exit(client: Client) -> None:
    first = started(client, "sleep 30")
    null = os.open(os.devnull, os.O_RDWR)
    answer = client.execute(first, ExecOptions(("sh", "-c", "exit 5")), [null] * 3)
    os.close(null)
    assert next(answer)[0]["pid"] > 0
    assert exit_of(answer).code == 5


def test_failures_are_raised_as_what_they_are(client: Client) -> None:
    with pytest.raises(NoSuchObject, match=r"^find nobody: no such container"):
        client.inspect(["nobody"])
    list(client.create(sh("true", name="mine")))
    with pytest.raises(Conflict) as caught:
        list(client.create(sh("true", name="mine")))
    assert (caught.value.subject, caught.value.hint) == ("mine", "asyncrt rm mine")
    assert [outcome.error is None for outcome in client.remove(["mine", "nobody"])] == [True, False]


@pytest.mark.parametrize(
    ("made", "cause"), [(False, "no such socket"), (True, "nobody listens there")], ids=["absent", "refused"]
)
def test_nobody_there_is_unavailable_with_the_mend(tmp_path: Path, made: bool, cause: str) -> None:
    path = tmp_path / "s"
    if made:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(Unavailable, match=cause) as caught:
        Client(str(path)).connect()
    assert "asyncrt daemon" in caught.value.hint


def test_a_path_too_long_for_a_socket_says_so() -> None:
    with pytest.raises(Unavailable, match="too long"):
        Client("/tmp/" + "x" * 200).connect()


def test_a_supervisor_that_goes_away_ends_every_call(client: Client, fake: FakeSupervisor) -> None:
    first = started(client, "sleep 30")
    waiting = client.call(protocol.Wait((first,)))
    client.version()
    fake.vanish(back=False)
    with pytest.raises(Unavailable, match="supervisor went away"):
        waiting.result()
    with pytest.raises(Unavailable):
        client.version()
    fake.listen()


def test_silence_ends_at_the_timeout(fake: FakeSupervisor) -> None:
    fake.before["version"] = lambda: time.sleep(1)
    with Client(fake.path, timeout=0.05) as client, pytest.raises(Unavailable, match="no answer within"):
        client.version()


def test_an_interruption_while_waiting_leaves_the_connection_whole(client: Client) -> None:
    first = started(client, "sleep 0.4; exit 7")
    waiting = client.call(protocol.Wait((first,)))
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        waiting.result()
    assert waiting.result()[0]["exit"]["code"] == 7


def test_a_peer_of_another_kind_is_told_from_a_supervisor(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with Client(str(tmp_path / "s")) as client:
            answer = client.call(protocol.Version())
            link, _ = listener.accept()
            with link:
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                with pytest.raises(Unavailable, match="another protocol"):
                    answer.result()


def test_text_that_is_not_utf8_is_refused_before_it_is_sent(client: Client) -> None:
    with pytest.raises(BadRequest, match="not UTF-8"):
        client.run(sh("\udcff"))
    assert client.version()


def test_an_answer_that_nobody_reads_holds_no_fds(client: Client) -> None:
    first = started(client, "true")
    client.wait([first])  # its pipes are of this process
    before = open_fds()
    answer = client.call(protocol.Logs(first))
    answer.close()
    while not answer.done:
        client.receive()
    # The fake is in this process too, and closes its own a moment later.
    deadline = time.monotonic() + 5
    while open_fds() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_fds() <= before
