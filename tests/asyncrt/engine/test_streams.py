"""What a container writes and reads: nothing is lost, whoever listens, and however slowly."""

import hashlib
import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests import watch
from tests.engine import CLI, Engine
from tests.patience import until

pytestmark = pytest.mark.root

MIB = 1 << 20
# Numbered lines on both streams by turns, a MiB each: a lost, doubled or swapped byte shows.
BOTH = "i=0; while [ $i -lt 16384 ]; do printf '%063d\\n' $i; printf 'E%062d\\n' $i >&2; i=$((i+1)); done"
OUT = b"".join(b"%063d\n" % n for n in range(16384))
ERR = b"".join(b"E%062d\n" % n for n in range(16384))


def test_a_mib_on_both_streams(shared: Engine, image: str) -> None:
    done = shared.raw("run", "--name", "writer", image, "sh", "-c", BOTH)
    assert (done.returncode, len(done.stdout), len(done.stderr)) == (0, MIB, MIB)
    assert (done.stdout, done.stderr) == (OUT, ERR)
    logs = shared.raw("logs", "writer")
    assert (logs.stdout, logs.stderr) == (OUT, ERR)
    ended = shared.inspect("writer")["exit"]
    assert (ended["stdout_bytes"], ended["stderr_bytes"]) == (MIB, MIB)


def test_logs_of_one_that_nobody_listened_to(shared: Engine, image: str) -> None:
    id = shared.cli("run", "-d", image, "sh", "-c", BOTH, check=True).stdout.strip()
    shared.cli("wait", id, check=True)
    logs = shared.raw("logs", id)
    assert (logs.returncode, logs.stdout, logs.stderr) == (0, OUT, ERR)


def test_logs_come_in_the_order_of_writing(shared: Engine, image: str) -> None:
    script = "for i in 1 2 3 4 5; do echo o$i; sleep 0.03; echo e$i >&2; sleep 0.03; done"
    shared.cli("run", "--name", "turns", image, "sh", "-c", script, check=True)
    mixed = shared.popen("logs", "turns", stderr=subprocess.STDOUT)
    out, _ = mixed.communicate(timeout=20)
    assert out.split() == [word for n in range(1, 6) for word in (b"o%d" % n, b"e%d" % n)]


def test_logs_follow_to_the_end(shared: Engine, image: str) -> None:
    script = "for i in 1 2 3; do echo $i; done; while [ ! -e /go ]; do sleep 0.02; done; echo 4; echo err >&2; exit 2"
    shared.cli("run", "-d", "--name", "tale", image, "sh", "-c", script, check=True)
    follower = shared.popen("logs", "-f", "tale")
    assert follower.stdout is not None
    assert [follower.stdout.readline() for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]
    assert not select.select([follower.stdout], [], [], 0.2)[0], "it waits while there is nothing new"
    shared.cli("exec", "tale", "touch", "/go", check=True)
    out, err = follower.communicate(timeout=20)
    assert (follower.returncode, out, err) == (0, b"4\n", b"err\n")


def test_logs_of_a_silent_one(shared: Engine, image: str) -> None:
    shared.cli("run", "--name", "mute", image, "true", check=True)
    for flags in ((), ("-f",)):
        done = shared.cli("logs", *flags, "mute", check=True)
        assert (done.stdout, done.stderr) == ("", "")


def test_a_slow_reader_holds_up_neither_the_container_nor_loses_a_byte(shared: Engine, image: str) -> None:
    for flags in ((), ("--rm",)):
        reader = shared.popen("run", "--name", "torrent", *flags, image, "sh", "-c", "yes | head -c 8388608; exit 3")
        ended = until(lambda: [row for row in shared.json("ps", "-a") if row["state"] == "stopped"], "it ended unread")
        assert ended[0]["exit_code"] == 3
        out, _ = reader.communicate(timeout=30)
        assert (reader.returncode, len(out), set(out)) == (3, 8 * MIB, set(b"y\n"))
        if not flags:
            shared.cli("rm", "torrent", check=True)
        until(lambda: not shared.ids(), "it is removed once its output was read")


def test_a_reader_that_leaves_does_not_end_the_container(shared: Engine, image: str) -> None:
    script = "i=0; while :; do echo line $i; i=$((i+1)); [ $i -lt 3000 ] || sleep 0.05; done"
    pipe = f"{' '.join(CLI)} run --name author {image} sh -c '{script}' | head -n 1"
    done = subprocess.run(["sh", "-c", pipe], env=shared.env, capture_output=True, timeout=30, check=False)
    assert done.stdout == b"line 0\n"
    assert done.stderr == b"asyncrt: left author running (see it with: asyncrt logs -f author)\n"
    assert watch.alive(shared.inspect("author")["pid"])
    until(lambda: "line 3005\n" in shared.cli("logs", "author").stdout, "it wrote on")


def test_many_at_once_each_with_its_own_output(shared: Engine, image: str) -> None:
    script = "echo out $HOSTNAME; echo err $HOSTNAME >&2; exit 3"
    commands = [shared.popen("run", "--name", f"solo-{n}", image, "sh", "-c", script) for n in range(30)]
    said = [(command.communicate(timeout=60), command.returncode) for command in commands]
    hosts = {row["name"]: row["id"][:12].encode() for row in shared.json("ps", "-a")}
    for n, ((out, err), code) in enumerate(said):
        host = hosts[f"solo-{n}"]
        assert (code, out, err) == (3, b"out %b\n" % host, b"err %b\n" % host)


@pytest.fixture(scope="module")
def blob() -> bytes:
    return os.urandom(5 * MIB)


def test_stdin_through_cat(shared: Engine, image: str, blob: bytes) -> None:
    done = shared.raw("run", "-i", image, "cat", input=blob)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(blob).digest()


def test_stdin_from_a_file(shared: Engine, image: str, blob: bytes, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(blob)
    with (tmp_path / "blob").open("rb") as file:
        command = shared.popen("run", "-i", image, "wc", "-c", stdin=file)
        out, _ = command.communicate(timeout=30)
    assert (command.returncode, out) == (0, b"%d\n" % len(blob))


def test_readers_of_stdin_that_stop_early(shared: Engine, image: str) -> None:
    lines = b"first\n" + b"more\n" * MIB
    done = shared.raw("run", "-i", image, "head", "-n", "1", input=lines)
    assert (done.returncode, done.stdout) == (0, b"first\n")
    done = shared.raw("run", "-i", image, "true", input=lines)
    assert (done.returncode, done.stdout) == (0, b"")
    done = shared.raw("run", "-i", image, "sh", "-c", "exec <&-; sleep 0.2; echo closed", input=lines)
    assert (done.returncode, done.stdout) == (0, b"closed\n")


def test_an_end_does_not_wait_for_stdin(shared: Engine, image: str) -> None:
    """A terminal's, or a writer's that never ends: the command returns when the container did."""
    read_end, write_end = os.pipe()
    try:
        command = shared.popen("run", "-i", image, "sh", "-c", "read line; echo got $line; exit 5", stdin=read_end)
        os.write(write_end, b"hello\n")
        out, _ = command.communicate(timeout=20)
        assert (command.returncode, out) == (5, b"got hello\n")
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_conversation(shared: Engine, image: str) -> None:
    command = shared.popen("run", "-i", image, "cat", stdin=subprocess.PIPE)
    assert command.stdin is not None
    assert command.stdout is not None
    for n in range(20):
        command.stdin.write(b"%d\n" % n)
        command.stdin.flush()
        assert command.stdout.readline() == b"%d\n" % n
    command.stdin.close()
    assert command.wait(20) == 0
    command.stdout.close()
    assert command.stderr is not None
    command.stderr.close()


def test_without_i_stdin_is_empty(shared: Engine, image: str) -> None:
    done = shared.raw("run", image, "sh", "-c", "cat; echo end", input=b"not for you")
    assert (done.returncode, done.stdout) == (0, b"end\n")


def test_a_process_that_outlives_init_does_not_delay_the_end(shared: Engine, image: str) -> None:
    """init's end kills it: the pipe that it holds is at its end then."""
    begin = time.monotonic()
    done = shared.cli("run", image, "sh", "-c", "sleep 600 & echo there")
    assert (done.returncode, done.stdout) == (0, "there\n")
    assert time.monotonic() - begin < 20
