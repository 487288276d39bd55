"""Readers that never read, read a byte at a time, or die in the middle: neither container nor shim pays for them."""

import os
from pathlib import Path

import pytest

from shimd.wire.messages import Attach, Attached, Ended, Refusal
from shimd.wire.values import LogWish
from tests.shimd.configs import config, shell
from tests.shimd.line import chunks, read_exactly, until
from tests.shimd.stage import NO_STREAM, OLDEST, Container, Stage

pytestmark = pytest.mark.root
MIB = 1 << 20
BOUND = LogWish("native", 4 * MIB, 1)
MUCH = 100 * MIB
MOST_KIB_MORE = 512  # that a shim may take for itself, whatever flows through it


def private_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sizes["Private_Clean"] + sizes["Private_Dirty"]


def disk(container: Container) -> int:
    return sum(path.stat().st_blocks * 512 for path in container.directory.iterdir())


def written(container: Container) -> int:
    path = container.directory / "stdout"
    return path.stat().st_size if path.exists() else 0


def torrent(stage: Stage, log: LogWish = BOUND) -> Container:
    """It writes MUCH once it is told to."""
    script = f"read x; dd if=/dev/zero bs=65536 count={MUCH // 65536} 2>/dev/null; exit 3"
    container = stage.start(shell(script), stdin=True, log=log)
    container.query()
    return container


def let_go(container: Container) -> None:
    os.write(container.attach_stdin(), b"\n")


def watched(container: Container) -> tuple[Ended, int, int]:
    """Its end, and the most that its shim had in memory and its log on disk meanwhile."""
    most_kib = most_disk = 0
    while True:
        if not container.silent(0.05):
            message = container.hear()
            if isinstance(message, Ended):
                return message, most_kib, most_disk
        most_kib = max(most_kib, private_kib(container.shim_pid))
        most_disk = max(most_disk, disk(container))


@pytest.mark.parametrize("readers", [0, 3])
def test_bad_readers(stage: Stage, readers: int) -> None:
    container = torrent(stage)
    pipes = [container.attach(stdout=0)[0] for _ in range(readers)]
    before = private_kib(container.shim_pid)
    let_go(container)
    if pipes:
        read_exactly(pipes[0], 1)
        container.forget(pipes.pop())  # it dies with bytes in its pipe
    ended, kib, bytes_on_disk = watched(container)
    assert (ended.record.code, ended.record.stdout_bytes) == (3, MUCH)
    assert kib - before <= MOST_KIB_MORE
    assert bytes_on_disk <= BOUND.bound
    # Those that stayed behind were cut off: a pipe's worth came, and then an end that the record belies.
    for pipe in pipes:
        assert sum(map(len, chunks(pipe))) < MUCH


def test_the_oldest_is_told(stage: Stage) -> None:
    script = "dd if=/dev/zero bs=65536 count=320 2>/dev/null; echo; echo end; sleep 60"
    whole = 320 * 65536 + len(b"\nend\n")
    container = stage.start(config("sh", "-c", script), log=BOUND)
    assert until(lambda: written(container) == whole)
    read, write = os.pipe2(os.O_CLOEXEC)
    container.fds.append(read)
    refused = container.ask(lambda seq: Attach(seq, False, 0, NO_STREAM, False), [write])
    assert isinstance(refused, Refusal)
    assert "its bound has dropped the rest" in str(refused.trouble)
    answer = container.ask(lambda seq: Attach(seq, False, OLDEST, NO_STREAM, False), [write])
    os.close(write)
    assert isinstance(answer, Attached)
    assert f"begins at byte {answer.stdout}:" in str(refused.trouble)
    assert read_exactly(read, whole - answer.stdout).endswith(b"\nend\n")
