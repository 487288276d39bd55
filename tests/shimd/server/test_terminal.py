"""A container with a terminal: its size, its one stream, what is typed, and its end."""

import os
import re
import time

import pytest

from shimd.wire.messages import Attach, CloseStdin, Done, Refusal, Resize
from tests.shimd.configs import MOUNTS, config
from tests.shimd.line import read_all, until
from tests.shimd.stage import FROM_NOW, NO_STREAM, Container, Stage, StartFailed

pytestmark = pytest.mark.root
SIZE = {"height": 33, "width": 77}


def terminal(stage: Stage, script: str, **process: object) -> Container:
    document = config("sh", "-c", script, process={"terminal": True, "consoleSize": SIZE, **process})
    return stage.start(document, stdin=True)


def typist(container: Container) -> int:
    """The write end of a pipe whose words are typed; it may close without a word."""
    return container.attach_stdin(once=False)


def shows(container: Container, words: str) -> bool:
    return until(lambda: words in container.log("stdout").decode())


def test_it_is_one_and_has_its_size_from_the_start(stage: Stage) -> None:
    container = terminal(stage, "stty size; tty; ls -l /dev/console | cut -c1; test -t 0 -a -t 1 -a -t 2 && echo all")
    assert container.ended().record.code == 0
    shown = container.log("stdout").decode()
    assert shown == "33 77\r\n/dev/pts/0\r\nc\r\nall\r\n"
    assert container.log("stderr") == b""


def test_what_is_typed_is_echoed_and_read(stage: Stage) -> None:
    container = terminal(stage, "read word; echo got $word")
    [out] = container.attach(stdout=0)
    pen = typist(container)
    os.write(pen, b"hello\n")
    assert read_all(out) == b"hello\r\ngot hello\r\n"
    assert container.ended().record.stdout_bytes == 18


def test_stderr_is_there_and_ends_at_once(stage: Stage) -> None:
    container = terminal(stage, "read x; echo done >&2")
    out, err = container.attach(stdout=0, stderr=0)
    assert read_all(err) == b""
    os.write(typist(container), b"\n")
    assert read_all(out) == b"\r\ndone\r\n"


def test_resize_arrives_and_the_last_one_counts(stage: Stage) -> None:
    container = terminal(stage, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    assert shows(container, "ready")
    for rows in (20, 30, 40):
        assert isinstance(container.ask(lambda seq, rows=rows: Resize(seq, "", rows, 2 * rows)), Done)  # type: ignore[misc]
    assert shows(container, "40 80")
    assert container.log("stdout").decode().strip().endswith("40 80")


def test_resize_of_none(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    answer = container.ask(lambda seq: Resize(seq, "", 24, 80))
    assert isinstance(answer, Refusal)
    assert "it has no terminal (run it with -t)" in str(answer.trouble)


def test_control_c_interrupts(stage: Stage) -> None:
    container = terminal(stage, "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done")
    assert shows(container, "ready")
    os.write(typist(container), b"\x03")
    assert container.ended().record.code == 5
    assert b"caught" in container.log("stdout")


@pytest.mark.parametrize("begun", [b"", b"half a line"])
def test_a_half_close_is_the_end_of_file_character(stage: Stage, begun: bytes) -> None:
    container = terminal(stage, "cat; echo over; cat; echo over again")
    os.write(typist(container), begun)
    assert isinstance(container.ask(CloseStdin), Done)
    assert shows(container, "over\r\n")
    assert isinstance(container.ask(CloseStdin), Done)  # a terminal can be fed again after it
    assert container.ended().record.code == 0
    shown = container.log("stdout").decode()
    assert shown == f"{begun.decode()}{begun.decode()}over\r\nover again\r\n"


def test_a_half_close_in_raw_mode_is_nothing(stage: Stage) -> None:
    container = terminal(stage, "stty raw -echo; echo ready; head -c 3 | od -An -tx1")
    assert shows(container, "ready")
    assert isinstance(container.ask(CloseStdin), Done)
    os.write(typist(container), b"abc")
    assert shows(container, "61 62 63")


def test_who_leaves_hangs_nothing_up(stage: Stage) -> None:
    container = terminal(stage, "read a; read b; echo $a $b")
    for word in (b"one\n", b"two\n"):
        pen = typist(container)
        os.write(pen, word)
        container.forget(pen)
    assert container.ended().record.code == 0
    assert b"one two" in container.log("stdout")


def test_a_terminal_that_nobody_has_open_just_now(stage: Stage) -> None:
    """As an init does that opens /dev/console for each line (systemd): a hang-up is no end while init lives."""
    inner = "exec </dev/null >/dev/null 2>&1; sleep 0.2; echo late >/dev/console; sleep 0.2; echo last >/dev/console"
    container = terminal(stage, f"echo early; {inner}")
    before = time.process_time()
    assert container.ended().record.code == 0
    assert container.log("stdout") == b"early\r\nlate\r\nlast\r\n"
    assert time.process_time() - before < 0.3


def test_much_output_comes_whole(stage: Stage) -> None:
    container = terminal(stage, "seq 1 100000")
    [out] = container.attach(stdout=0)
    lines = read_all(out).decode().split("\r\n")
    assert lines == [*map(str, range(1, 100001)), ""]
    assert container.ended().record.code == 0


def test_a_session_that_ends_takes_its_children_along(stage: Stage) -> None:
    container = terminal(stage, "sleep 60 & echo $!; exit 3")
    assert container.ended(5).record.code == 3
    assert re.fullmatch(rb"\d+\r\n", container.log("stdout"))


def test_another_user_has_it(stage: Stage) -> None:
    container = terminal(stage, "stat -c %u $(tty); echo words >$(tty)", user={"uid": 1000, "gid": 1000})
    assert container.ended().record.code == 0
    assert container.log("stdout") == b"1000\r\nwords\r\n"


def test_attach_from_now_misses_what_was(stage: Stage) -> None:
    container = terminal(stage, "echo early; read x; echo late")
    assert shows(container, "early")
    [out] = container.attach(stdout=FROM_NOW)
    os.write(typist(container), b"x\n")
    assert read_all(out) == b"x\r\nlate\r\n"


def test_without_stdin_nothing_is_typed(stage: Stage) -> None:
    container = stage.start(config("sh", "-c", "tty; sleep 60", process={"terminal": True}))
    read, write = os.pipe()
    answer = container.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, False), [read])
    os.close(read)
    os.close(write)
    assert isinstance(answer, Refusal)
    assert "it has no stdin" in str(answer.trouble)


def test_no_devpts_no_terminal(stage: Stage) -> None:
    mounts = [mount for mount in MOUNTS if mount["destination"] != "/dev/pts"]
    with pytest.raises(StartFailed, match="open console: the container has no devpts on /dev/pts"):
        stage.start(config("sh", mounts=mounts, process={"terminal": True}))


def test_a_program_that_is_not_there(stage: Stage) -> None:
    with pytest.raises(StartFailed) as caught:
        stage.start(config("/no/such", process={"terminal": True}))
    assert caught.value.trouble.code == 127
