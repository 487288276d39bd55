"""exec: one more process in a running container."""

import os
import subprocess
import time

import pytest

from asyncrt.model.options import ExecOptions
from asyncrt.sdk.blocking import Client
from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


@pytest.fixture
def guest(shared: Engine, image: str) -> str:
    """A running container."""
    options = ("--name", "guest", "-e", "COLOUR=red", "-w", "/tmp", "--hostname", "inn")
    return shared.cli("run", "-d", *options, image, "sleep", "600", check=True).stdout.strip()


def test_codes_and_streams(shared: Engine, guest: str) -> None:
    done = shared.cli("exec", "guest", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert shared.cli("exec", "guest", "true").returncode == 0
    assert shared.cli("exec", guest[:6], "sh", "-c", "exit 255").returncode == 255
    assert shared.cli("exec", "guest", "sh", "-c", "kill -TERM $$").returncode == 143
    assert shared.cli("exec", "guest", "sh", "-c", "kill -KILL $$").returncode == 137


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("guest", "no-such"), 127, "run no-such: no such file or directory (is it on the container's PATH?)"),
        (("guest", "notexec"), 126, "run notexec: permission denied"),
        (("guest", "garbage"), 126, "run garbage: exec format error"),
        (
            ("-u", "stranger", "guest", "true"),
            125,
            'find user "stranger": the image\'s /etc/passwd has no such entry (a number needs none)',
        ),
    ],
)
def test_what_cannot_run(shared: Engine, guest: str, words: tuple[str, ...], code: int, line: str) -> None:
    done = shared.cli("exec", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"asyncrt: {line}\n")


@pytest.mark.busybox
def test_env_workdir_and_user(shared: Engine, guest: str) -> None:
    script = "echo $COLOUR $SIZE $HOME $(pwd) $(hostname); id"
    done = shared.cli("exec", "-e", "SIZE=big", "guest", "sh", "-c", script, check=True)
    assert done.stdout.splitlines()[0] == "red big /root /tmp inn"
    assert done.stdout.splitlines()[1].startswith("uid=0(root) gid=0(root)")
    done = shared.cli("exec", "-e", "COLOUR=blue", "-w", "/bin", "-u", "app", "guest", "sh", "-c", script, check=True)
    assert done.stdout == "blue /home/app /bin inn\nuid=1000(app) gid=1000(app) groups=50(staff),1000(app)\n"
    done = shared.cli("exec", "-u", "12:34", "guest", "id", check=True)
    assert done.stdout == "uid=12 gid=34 groups=34\n"
    done = shared.cli("exec", "-w", "/no/such", "guest", "pwd")
    assert done.returncode != 0
    assert done.stderr.startswith("asyncrt: chdir to /no/such: no such file or directory")


@pytest.mark.busybox
def test_it_is_in_the_container(shared: Engine, guest: str) -> None:
    init = shared.inspect("guest")["pid"]
    sleeper = shared.popen("exec", "guest", "sleep", "601")
    inside = until(lambda: watch.members(shared, guest) - {init}, "it is in the container's cgroups")
    (pid,) = inside
    for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
        assert watch.namespace(pid, kind) == watch.namespace(init, kind), kind
    listed = shared.cli("exec", "guest", "ps", check=True).stdout
    assert "sleep 600" in listed
    assert "sleep 601" in listed
    shared.cli("kill", "guest", check=True)
    out, err = sleeper.communicate(timeout=20)
    assert (sleeper.returncode, out, err) == (137, b"", b""), "it ends with its container"


def test_stdin_of_five_mib(shared: Engine, guest: str) -> None:
    lines = b"0123456789abcdef" * (5 << 16)
    assert shared.raw("exec", "-i", "guest", "cat", input=lines).stdout == lines
    assert shared.raw("exec", "guest", "cat", input=lines).stdout == b"", "without -i it has none"
    assert shared.raw("exec", "-i", "guest", "head", "-c", "3", input=lines).stdout == b"012"


def test_twenty_at_once(shared: Engine, guest: str) -> None:
    commands = [shared.popen("exec", "guest", "sh", "-c", f"echo out {n}; sleep 0.1; exit {n}") for n in range(20)]
    for n, command in enumerate(commands):
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out, err) == (n, b"out %d\n" % n, b"")
    assert shared.inspect("guest")["state"] == "running"


def test_detached(shared: Engine, guest: str) -> None:
    done = shared.cli("exec", "-d", "guest", "sh", "-c", "echo made > /made; sleep 601", check=True)
    assert done.stdout == ""
    until(lambda: shared.cli("exec", "guest", "cat", "/made").stdout == "made\n", "it does its work")


def test_in_ended_and_unknown_containers(shared: Engine, guest: str, image: str) -> None:
    shared.cli("kill", "guest", check=True)
    shared.cli("wait", "guest", check=True)
    done = shared.cli("exec", "guest", "true")
    assert (done.returncode, done.stderr) == (125, "asyncrt: exec in guest: it is not running (it is stopped)\n")
    done = shared.cli("exec", "stranger", "true")
    assert done.returncode == 125
    assert done.stderr == "asyncrt: exec in stranger: there is no such container (see asyncrt ps -a)\n"
    shared.cli("create", "--name", "fresh", image, "true", check=True)
    done = shared.cli("exec", "fresh", "true")
    assert (done.returncode, done.stderr) == (125, "asyncrt: exec in fresh: it is not running (it is created)\n")


def test_the_container_ends_under_it(shared: Engine, image: str) -> None:
    """Execs race with the end: each gets a code or one clear line, and nothing hangs."""
    for _ in range(5):
        id = shared.cli("run", "-d", image, "sleep", "0.15", check=True).stdout.strip()
        commands = [shared.popen("exec", id, "sh", "-c", "sleep 600") for _ in range(4)]
        for command in commands:
            _, err = command.communicate(timeout=30)
            # 137 with a line where it was killed on its way to the program.
            assert command.returncode in (125, 137), err
            assert err.count(b"\n") <= 1, err
            assert err.startswith(b"asyncrt: ") if err else command.returncode == 137, err


def test_events_of_an_exec(shared: Engine, guest: str) -> None:
    last = shared.json("info")["last_event"]
    shared.cli("exec", "guest", "sh", "-c", "exit 4")
    done = shared.cli("events", "--no-follow", "--since-seq", str(last), check=True)
    actions = [line.split()[2] for line in done.stdout.splitlines()]
    assert actions == ["exec_start", "exec_die"]
    assert "code=4" in done.stdout


def test_a_client_that_dies_leaves_the_exec(shared: Engine, guest: str) -> None:
    init = shared.inspect("guest")["pid"]
    command = shared.popen("exec", "guest", "sleep", "601", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (pid,) = until(lambda: watch.members(shared, guest) - {init}, "it runs")
    command.kill()
    command.wait()
    assert watch.alive(pid)
    assert shared.cli("exec", "guest", "true").returncode == 0


def test_clients_that_leave_at_any_moment(shared: Engine, guest: str) -> None:
    supervisor = shared.supervisor_pid()
    for turn in range(20):
        read_end, write_end = os.pipe()
        with Client(str(shared.socket), timeout=30) as client:
            client.execute(guest, ExecOptions(("true",)), [read_end, write_end, write_end])
            time.sleep(turn * 0.001)
        os.close(read_end)
        os.close(write_end)
    assert shared.cli("exec", "guest", "true").returncode == 0
    assert shared.supervisor_pid() == supervisor
    init = shared.inspect("guest")["pid"]
    until(lambda: watch.members(shared, guest) == {init}, "they all ended")
