"""What a container writes, who reads it when, and what it reads itself."""

import contextlib
import os
import select
import struct
import time

import pytest

from shimd.wire import channel
from shimd.wire.messages import Attach, Attached, CloseStdin, Done, Refusal
from tests.shimd.configs import config, shell
from tests.shimd.line import chunks, gone, read_all, read_exactly, until
from tests.shimd.stage import FROM_NOW, NO_STREAM, Container, Stage

pytestmark = pytest.mark.root
MIB = 1 << 20
BIG = 10 * MIB
# Ten MiB whose every line tells its place.
COUNT_FAR = f"yes 0123456789abcdef | head -c {BIG}"
PATTERN = (b"0123456789abcdef\n" * (BIG // 17 + 1))[:BIG]


def shown(container: Container) -> None:
    """Wait until its first line is in the log."""
    assert until(lambda: container.log("stdout"))


def test_attach_from_the_beginning(stage: Stage) -> None:
    container = stage.start(shell("echo one; read x; echo two; echo err >&2"), stdin=True)
    shown(container)
    out, err = container.attach(0, 0)
    assert read_exactly(out, 4) == b"one\n"
    os.write(container.attach_stdin(), b"go\n")
    assert read_all(out) == b"two\n"
    assert read_all(err) == b"err\n"


def test_attach_from_an_offset_and_from_now(stage: Stage) -> None:
    container = stage.start(shell("echo 0123456789; read x; echo more"), stdin=True)
    shown(container)
    [middle] = container.attach(stdout=4)
    [now] = container.attach(stdout=FROM_NOW)
    [beyond] = container.attach(stdout=13)
    os.write(container.attach_stdin(), b"go\n")
    assert read_all(middle) == b"456789\nmore\n"
    assert read_all(now) == b"more\n"
    assert read_all(beyond) == b"re\n"


def test_each_stream_has_its_own_end(stage: Stage) -> None:
    container = stage.start(shell("echo out; exec 1>&-; read x; echo err >&2"), stdin=True)
    out, err = container.attach(0, 0)
    assert read_all(out) == b"out\n"
    assert container.query().state == "running"
    os.write(container.attach_stdin(), b"go\n")
    assert read_all(err) == b"err\n"


def test_attach_before_the_first_word(stage: Stage) -> None:
    container = stage.start(shell("read x; echo said"), stdin=True)
    [first] = container.attach(stdout=0)
    [now] = container.attach(stdout=FROM_NOW)
    os.write(container.attach_stdin(), b"go\n")
    assert (read_all(first), read_all(now)) == (b"said\n", b"said\n")


def test_attach_to_a_stream_that_ended(stage: Stage) -> None:
    container = stage.start(shell("echo out; exec 1>&-; sleep 60"))
    [first] = container.attach(stdout=0)
    read_all(first)
    [late] = container.attach(stdout=1)
    assert read_all(late) == b"ut\n"


def test_many_readers_and_one_that_never_reads(stage: Stage) -> None:
    container = stage.start(shell(f"read x; {COUNT_FAR}"), stdin=True)
    [idle] = container.attach(stdout=0)
    readers = [container.attach(stdout=0)[0] for _ in range(3)]
    os.write(container.attach_stdin(), b"go\n")
    for reader in readers:
        assert read_all(reader) == PATTERN
    # The container did not wait for the idle one; its shim does, and gives all of it when it reads at last.
    ended = container.ended()
    assert (ended.record.code, ended.record.stdout_bytes) == (0, BIG)
    assert container.silent(0.1)
    assert read_all(idle) == PATTERN
    assert container.gone() == []


def test_a_slow_reader_gets_every_byte(stage: Stage) -> None:
    container = stage.start(shell(COUNT_FAR))
    [out] = container.attach(stdout=0)
    container.ended()
    found = b""
    for number, chunk in enumerate(chunks(out)):
        found += chunk
        if number % 40 == 0:
            select.select([], [], [], 0.005)
    assert found == PATTERN
    assert container.log("stdout") == PATTERN
    entries = list(struct.iter_unpack("<QIB3x", container.log("index")))
    assert sum(size for _, size, _ in entries) == BIG


def test_a_reader_that_dies_harms_nobody(stage: Stage) -> None:
    container = stage.start(shell(f"read x; {COUNT_FAR}"), stdin=True)
    [early] = container.attach(stdout=0)
    [full] = container.attach(stdout=0)
    [other] = container.attach(stdout=0)
    container.forget(early)
    os.write(container.attach_stdin(), b"go\n")
    read_exactly(full, 100)  # it has filled its pipe when it goes
    container.forget(full)
    assert read_all(other) == PATTERN
    assert container.ended().record.stdout_bytes == BIG
    assert container.gone() == []


def test_a_reader_that_dies_after_the_end_frees_the_shim(stage: Stage) -> None:
    container = stage.start(shell(COUNT_FAR))
    [idle] = container.attach(stdout=0)
    container.ended()
    container.forget(idle)
    assert container.gone() == []


def test_stdin_with_half_close(stage: Stage) -> None:
    container = stage.start(config("cat"), stdin=True)
    [out] = container.attach(stdout=0)
    pen = container.attach_stdin()
    os.write(pen, b"hello ")
    assert read_exactly(out, 6) == b"hello "
    os.write(pen, b"world")
    container.forget(pen)
    assert read_all(out) == b"world"
    assert container.ended().record.code == 0


def test_stdin_outlives_who_feeds_it(stage: Stage) -> None:
    """A client that vanishes closes nothing, and the next one goes on; the half-close is a message."""
    container = stage.start(config("cat"), stdin=True)
    [out] = container.attach(stdout=0)
    for word in (b"first ", b"second "):
        pen = container.attach_stdin(once=False)
        os.write(pen, word)
        container.forget(pen)
        assert read_exactly(out, len(word)) == word
    pen = container.attach_stdin(once=False)
    os.write(pen, b"third")
    assert isinstance(container.ask(CloseStdin), Done)
    assert read_all(out) == b"third"
    assert container.ended().record.code == 0


@pytest.mark.parametrize("terminal", [False, True])
def test_a_clients_pipe_is_not_made_another(stage: Stage, terminal: bool) -> None:
    """Its flags are shared with whoever else has it open."""
    container = stage.start(config("cat", process={"terminal": terminal}), stdin=True)
    read, write = os.pipe()
    answer = container.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, False), [read])
    assert isinstance(answer, Attached)
    os.write(write, b"word\n")
    assert until(lambda: b"word" in container.log("stdout"))
    assert isinstance(container.ask(CloseStdin), Done)
    assert container.ended().record.code == 0
    assert os.get_blocking(read)
    channel.close_all((read, write))


def test_a_half_close_waits_for_what_is_under_way(stage: Stage) -> None:
    container = stage.start(shell("sleep 0.3; cat"), stdin=True)
    [out] = container.attach(stdout=0)
    pen = container.attach_stdin(once=False)
    os.set_blocking(pen, False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:  # its pipe, and then the client's, until both are full
            sent += os.write(pen, PATTERN[sent : sent + 4096])
            time.sleep(0.001)
    assert sent > 65536
    assert isinstance(container.ask(CloseStdin), Done)
    assert read_all(out) == PATTERN[:sent]
    assert container.ended().record.code == 0


def test_a_half_close_without_anybody(stage: Stage) -> None:
    container = stage.start(shell("cat; sleep 60"), stdin=True)
    assert isinstance(container.ask(CloseStdin), Done)
    read, write = os.pipe()
    late = container.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, False), [read])
    channel.close_all((read, write))
    for answer in (container.ask(CloseStdin), late):
        assert isinstance(answer, Refusal)
        assert "closed" in str(answer.trouble)
    other = stage.start(config("sleep", "60"))
    answer = other.ask(CloseStdin)
    assert isinstance(answer, Refusal)
    assert "it has none (run it with -i)" in str(answer.trouble)


def test_much_stdin_to_a_slow_program(stage: Stage) -> None:
    container = stage.start(shell("sleep 0.2; cat"), stdin=True)
    [out] = container.attach(stdout=0)
    pen = container.attach_stdin()
    sent, found = 0, b""
    os.set_blocking(pen, False)
    while len(found) < MIB:
        readable, writable, _ = select.select([out], [pen] if sent < MIB else [], [], 10)
        assert readable or writable
        if writable:
            sent += os.write(pen, PATTERN[sent : min(sent + 65536, MIB)])
            if sent == MIB:
                container.forget(pen)
        if readable:
            found += os.read(out, 65536)
    assert found == PATTERN[:MIB]
    assert read_all(out) == b""
    assert container.ended().record.code == 0


def test_without_stdin_it_reads_nothing(stage: Stage) -> None:
    container = stage.run(config("cat"))
    assert container.log("stdout") == b""
    other = stage.start(config("sleep", "60"))
    answer = other.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, True), [other.end.fileno()])
    assert isinstance(answer, Refusal)
    assert "it has no stdin" in str(answer.trouble)


def test_stdin_has_one_writer(stage: Stage) -> None:
    container = stage.start(config("cat"), stdin=True)
    pen = container.attach_stdin()
    read, write = os.pipe()
    answer = container.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, True), [read])
    os.close(read)
    assert isinstance(answer, Refusal)
    assert "its stdin is taken" in str(answer.trouble)
    with pytest.raises(BrokenPipeError):  # the refused end was closed, not kept
        os.write(write, b"x")
    os.close(write)
    container.forget(pen)
    assert container.ended().record.code == 0


def test_a_program_that_closes_its_stdin(stage: Stage) -> None:
    container = stage.start(shell("read x; exec 0<&-; echo closed; sleep 60"), stdin=True)
    [out] = container.attach(stdout=0)
    pen = container.attach_stdin()
    os.write(pen, b"go\n")
    assert read_exactly(out, 7) == b"closed\n"
    poll = select.poll()
    poll.register(pen, 0)
    assert poll.poll(10_000) == [(pen, select.POLLERR)]  # nobody reads any more
    assert container.query().state == "running"


@pytest.mark.parametrize("count", [0, 1, 3])
def test_attach_with_the_wrong_number_of_fds(stage: Stage, count: int) -> None:
    container = stage.start(config("sleep", "60"))
    fds = [os.open("/dev/null", os.O_WRONLY) for _ in range(count)]
    answer = container.ask(lambda seq: Attach(seq, False, 0, 0, False), fds)
    for fd in fds:
        os.close(fd)
    assert isinstance(answer, Refusal)
    assert "fds and streams do not match" in str(answer.trouble)


def test_a_pipe_that_a_stranger_holds_delays_the_end_but_not_for_ever(stage: Stage) -> None:
    """Somebody outside the container has its stdout: no EOF comes."""
    container = stage.start(shell("echo mine; sleep 60"))
    [out] = container.attach(stdout=0)
    assert read_exactly(out, 5) == b"mine\n"
    stranger = os.open(f"/proc/{container.pid}/fd/1", os.O_WRONLY)
    container.fds.append(stranger)
    container.kill()
    assert container.silent(0.3)
    ended = container.ended()
    assert (ended.record.signal, ended.record.stdout_bytes) == (9, 5)
    # Its readers are told the end too, and the shim goes.
    assert read_all(out) == b""
    assert container.gone() == []
    assert gone(container.shim_pid)


def test_attach_answers(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    read, write = os.pipe()
    answer = container.ask(lambda seq: Attach(seq, False, NO_STREAM, 0, False), [write])
    os.close(write)
    os.close(read)
    assert isinstance(answer, Attached)


def test_a_dead_clients_words_come_before_the_next_ones(stage: Stage) -> None:
    """It left its pipe full; who comes next need not wait until the container has read that."""
    container = stage.start(shell("sleep 0.3; cat"), stdin=True)
    [out] = container.attach(stdout=0)
    first = container.attach_stdin(once=False)
    os.set_blocking(first, False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += os.write(first, PATTERN[sent : sent + 4096])
            time.sleep(0.001)
    container.forget(first)
    second = container.attach_stdin(once=False)
    os.write(second, b"second")
    assert isinstance(container.ask(CloseStdin), Done)
    assert read_all(out) == PATTERN[:sent] + b"second"
