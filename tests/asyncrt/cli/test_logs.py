"""asyncrt logs by flags: docker's times, last lines and time stamps; and following, whoever dies."""

import os
import re
import signal

import pytest

from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

SCRIPT = "for i in 1 2 3; do echo out $i; sleep 0.2; echo err $i >&2; sleep 0.2; done"
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (.*)")


@pytest.fixture
def teller(shared: Engine, image: str) -> Engine:
    """`box` wrote three lines on each stream by turns."""
    shared.cli("run", "--name", "box", image, "sh", "-c", SCRIPT, check=True)
    return shared


def test_time_stamps_order_what_came(teller: Engine) -> None:
    done = teller.cli("logs", "--timestamps", "box", check=True)
    lines = [found.groups() for line in (done.stdout + done.stderr).splitlines() if (found := STAMP.fullmatch(line))]
    assert [word for _, word in sorted(lines)] == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"]


def test_tail_counts_lines_of_both_streams(teller: Engine) -> None:
    done = teller.cli("logs", "--tail", "3", "box", check=True)
    assert (done.stdout, done.stderr) == ("out 3\n", "err 2\nerr 3\n")
    assert teller.cli("logs", "-n", "0", "box", check=True).stdout == ""
    everything = teller.cli("logs", "box", check=True)
    for all in ("all", "-1", "99"):
        done = teller.cli("logs", "--tail", all, "box", check=True)
        assert (done.stdout, done.stderr) == (everything.stdout, everything.stderr)


def test_since_and_until(teller: Engine) -> None:
    stamps = [line.split()[0] for line in teller.cli("logs", "-t", "box", check=True).stdout.splitlines()]
    done = teller.cli("logs", "--since", stamps[1], "box", check=True)
    assert (done.stdout, done.stderr) == ("out 2\nout 3\n", "err 2\nerr 3\n")
    done = teller.cli("logs", "--until", stamps[1], "box", check=True)
    assert (done.stdout, done.stderr) == ("out 1\nout 2\n", "err 1\n")
    assert teller.cli("logs", "--since", "1h", "box", check=True).stdout == "out 1\nout 2\nout 3\n"
    assert teller.cli("logs", "--until", "1h30m", "box", check=True).stdout == ""
    bad = teller.cli("logs", "--since", "yesterday", "box")
    assert (bad.returncode, "is no time" in bad.stderr) == (1, True)


def test_following_goes_on_with_the_next_supervisor(engine: Engine, image: str) -> None:
    script = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); sleep 0.02; done"
    engine.cli("run", "-d", "--name", "box", image, "sh", "-c", script, check=True)
    follower = engine.popen("logs", "-f", "--tail", "0", "box")
    late = engine.popen("logs", "-f", "box", bufsize=0)
    assert late.stdout is not None
    assert late.stdout.readline() == b"line 0\n"
    pid = engine.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")
    out, _ = late.communicate(timeout=30)
    assert (late.returncode, out) == (0, b"".join(b"line %d\n" % n for n in range(1, 100)))
    newest, _ = follower.communicate(timeout=30)
    assert newest.endswith(b"line 99\n")
    assert newest in b"line 0\n" + out


def test_a_bounded_log_shows_its_newest(shared: Engine, image: str) -> None:
    words = ["--log-opt", "max-size=128k", image, "sh", "-c", "yes | head -c 1000000; echo end"]
    done = shared.raw("run", "--name", "box", *words)
    assert done.returncode == 0
    kept = shared.raw("logs", "box").stdout
    assert len(kept) <= 128 * 1024
    assert kept.endswith(b"y\nend\n")


def test_without_a_log_the_streams_are_ours(shared: Engine, image: str) -> None:
    script = "echo out; echo err >&2; exit 3"
    done = shared.cli("run", "--name", "box", "--log-driver", "none", image, "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    done = shared.cli("logs", "box")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
