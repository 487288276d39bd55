"""Execs with terminals, execs of a paused container, and what is remembered of their ends."""

import os
import resource
import select
from pathlib import Path

import pytest

from shimd.linux import freezer
from shimd.wire.messages import Done, Exec, ExecEnded, ExecFailed, ExecStarted, KeepTerminal, Refusal, Resize
from tests.shimd.configs import MOUNTS, config, process_of
from tests.shimd.line import gone, no_more_fds, until
from tests.shimd.stage import Container, Stage

pytestmark = pytest.mark.root
SIZE = {"height": 33, "width": 77}


@pytest.fixture
def box(stage: Stage) -> Container:
    """A container that sleeps."""
    return stage.start(config("sleep", "60"))


def shown(master: int, timeout: float = 10.0) -> bytes:
    """All that the terminal shows until it hangs up; closes it."""
    found = b""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    try:
        while poll.poll(timeout * 1000):
            found += os.read(master, 4096)
        raise AssertionError(f"no hang-up; shown: {found!r}")
    except OSError:  # EIO
        return found
    finally:
        os.close(master)


def shown_until(master: int, word: bytes) -> bytes:
    found = b""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    while word not in found:
        assert poll.poll(10_000), found
        found += os.read(master, 4096)
    return found


def test_its_size_and_its_end(box: Container) -> None:
    master = box.exec_on_terminal("e", "sh", "-c", "stty size; tty; exit 4", consoleSize=SIZE)
    assert shown(master) == b"33 77\r\n/dev/pts/0\r\n"
    assert box.expect(ExecEnded).record.code == 4


def test_its_words_come_whole(box: Container) -> None:
    lines = shown(box.exec_on_terminal("e", "seq", "1", "50000")).split(b"\r\n")
    assert lines == [*(str(number).encode() for number in range(1, 50001)), b""]


def test_resize_by_message(box: Container) -> None:
    master = box.exec_on_terminal(
        "e", "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    )
    shown_until(master, b"ready")
    assert isinstance(box.ask(lambda seq: Resize(seq, "e", 40, 90)), Done)
    assert b"40 90" in shown(master)


def test_resize_of_none(box: Container) -> None:
    box.exec("plain", process_of("sleep", "60"))
    box.expect(ExecStarted)
    for id, word in (("plain", "it has no terminal"), ("nobody", "it is not running")):
        answer = box.ask(lambda seq, id=id: Resize(seq, id, 40, 90))  # type: ignore[misc]
        assert isinstance(answer, Refusal)
        assert word in str(answer.trouble)


def test_control_c_and_half_close(box: Container) -> None:
    master = box.exec_on_terminal("e", "sh", "-c", "cat; exit 6")
    os.write(master, b"word\n\x04")
    assert shown(master) == b"word\r\nword\r\n"
    assert box.expect(ExecEnded).record.code == 6
    master = box.exec_on_terminal("f", "cat")
    os.write(master, b"\x03")
    shown(master)
    assert box.expect(ExecEnded).record.signal == 2


def test_a_client_that_dies_hangs_up(box: Container) -> None:
    """As every terminal does: SIGHUP. Who wants to survive it says nohup."""
    master = box.exec_on_terminal("e", "sh", "-c", "echo ready; sleep 60")
    shown_until(master, b"ready")
    os.close(master)
    assert box.expect(ExecEnded).record.signal == 1


def test_a_terminal_that_is_left_to_the_shim_goes_on(box: Container) -> None:
    """And what it shows from then on does not stop its program: it is more than any terminal holds."""
    master = box.exec_on_terminal("e", "sh", "-c", "echo ready; read x; seq 1 100000; exit 7")
    shown_until(master, b"ready")
    assert isinstance(box.ask(lambda seq: KeepTerminal(seq, "e"), [master]), Done)
    os.write(master, b"go on\n")
    os.close(master)
    record = box.expect(ExecEnded).record
    assert (record.code, record.signal) == (7, 0)


def test_what_cannot_be_left(box: Container) -> None:
    box.exec("plain", process_of("sleep", "60"))
    box.expect(ExecStarted)
    null = os.open(os.devnull, os.O_RDWR)
    for id, word in (("plain", "it has no terminal"), ("nobody", "it is not running")):
        answer = box.ask(lambda seq, id=id: KeepTerminal(seq, id), [null])  # type: ignore[misc]
        assert isinstance(answer, Refusal)
        assert word in str(answer.trouble)
    os.close(null)


def test_the_container_goes_and_the_terminal_hangs_up(box: Container) -> None:
    master = box.exec_on_terminal("e", "sleep", "60")
    box.kill()
    assert shown(master) == b""
    assert box.expect(ExecEnded).record.signal == 9


def test_another_user_has_it(box: Container) -> None:
    user = {"uid": 1000, "gid": 1000}
    master = box.exec_on_terminal("e", "sh", "-c", "stat -c %u $(tty); echo words >$(tty)", user=user)
    assert shown(master) == b"1000\r\nwords\r\n"


def test_many_terminals(box: Container) -> None:
    masters = [box.exec_on_terminal(f"e{number}", "cat") for number in range(20)]
    for number, master in enumerate(masters):
        os.write(master, b"%d\n" % number)
    for number, master in enumerate(masters):
        assert b"%d\r\n%d\r\n" % (number, number) in shown_until(master, b"%d\r\n%d\r\n" % (number, number))
        os.close(master)
    assert {box.expect(ExecEnded).record.signal for _ in masters} == {1}


def test_no_devpts_no_terminal(stage: Stage) -> None:
    box = stage.start(config("sleep", "60", mounts=[mount for mount in MOUNTS if mount["destination"] != "/dev/pts"]))
    box.ask(lambda seq: Exec(seq, "e", process_of("sh", terminal=True)))
    assert "the container has no devpts" in str(box.expect(ExecFailed).trouble)
    assert box.query().execs == []


def test_a_program_that_is_not_there(box: Container) -> None:
    box.ask(lambda seq: Exec(seq, "e", process_of("/no/such", terminal=True)))
    assert box.expect(ExecFailed).trouble.code == 127


def test_fds_that_a_terminal_does_not_take(box: Container) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    box.ask(lambda seq: Exec(seq, "e", process_of("sh", terminal=True)), [null] * 3)
    os.close(null)
    assert "0 fds are needed, 3 came" in str(box.expect(ExecFailed).trouble)


def test_refused_while_it_is_paused(box: Container, stage: Stage) -> None:
    tree = next(tree for tree in stage.hierarchies if tree.version == 2 or "freezer" in tree.controllers)
    directory = tree.mount + box.cgroup
    if not (Path(directory) / freezer.FILES[tree.version][0]).exists():
        pytest.skip("there is no freezer")
    freezer.freeze(tree.version, directory)
    try:
        null = os.open("/dev/null", os.O_RDWR)
        answer = box.ask(lambda seq: Exec(seq, "e", process_of("true")), [null] * 3)
        os.close(null)
    finally:
        freezer.thaw(tree.version, directory)
    assert isinstance(answer, Refusal)
    assert "it is paused (possible while it is running)" in str(answer.trouble)
    out, _ = box.exec("f", process_of("echo", "awake"))
    assert os.read(out, 100) == b"awake\n"


def test_a_shim_without_fds_left_refuses_and_lives(box: Container, stage: Stage) -> None:
    before = no_more_fds(box.shim_pid)
    box.ask(lambda seq: Exec(seq, "e", process_of("true", terminal=True)))
    assert "too many open files" in str(box.expect(ExecFailed).trouble)
    line = box.reconnect()  # nor can it accept anybody
    assert line.silent(0.2)
    resource.prlimit(box.shim_pid, resource.RLIMIT_NOFILE, before)
    try:
        assert line.query().state == "running"
    finally:
        line.close()
    assert stage.complaints() == "accept a supervisor: Too many open files\n"


def test_their_ends_are_told_to_the_next_supervisor(box: Container) -> None:
    for number in range(3):
        box.exec(f"e{number}", process_of("sh", "-c", f"exit {number}"))
        box.expect(ExecEnded)
    box.exec("alive", process_of("sleep", "60"))
    box.expect(ExecStarted)
    line = box.reconnect()
    try:
        assert line.query().execs == ["alive"]
        told = [message for message in line.heard if isinstance(message, ExecEnded)]
        assert [(message.exec, message.record.code) for message in told] == [("e0", 0), ("e1", 1), ("e2", 2)]
    finally:
        line.close()


def test_an_exec_that_outlives_its_supervisor(box: Container) -> None:
    out, _ = box.exec("e", process_of("sh", "-c", "read x </proc/self/fd/0; exit 7"), stdin=(pipe := os.pipe())[0])
    os.close(pipe[0])
    started = box.expect(ExecStarted)
    box.end.close()
    line = box.reconnect()
    try:
        assert line.query().execs == ["e"]
        os.write(pipe[1], b"\n")
        assert line.expect(ExecEnded).record.code == 7
        assert gone(started.pid)
    finally:
        os.close(pipe[1])
        line.close()
    assert until(lambda: not os.read(out, 1))
