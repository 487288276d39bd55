"""What podman and docker ask of a runtime, option by option: a row each, over asyncrt-oci.

A row is the options of `run`, the program inside, and what its output has to be (a pattern for all of it). What takes
more than one command is a function below the table.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shimd.linux import identity
from tests.patience import until
from tests.shimd.command.callers import PARENT, SECONDS, House, apart, at_a_terminal, docker, needs, podman

pytestmark = [pytest.mark.root, pytest.mark.slow]
OPENERS = {"podman": podman, "docker": docker}
STATUS = "/proc/self/status"
ALL = f"{identity.bounding():016x}"
INITS = ("catatonit", "docker-init")
LIMITS = "--ulimit nproc=100:100"  # beside one limit podman sets the others to more than a small machine may
CPU = max(os.sched_getaffinity(0))


class Row(NamedTuple):
    options: str
    program: list[str]
    output: str
    code: int = 0
    needs: tuple[str, ...] = ()


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def line(word: str, file: str = STATUS) -> list[str]:
    return ["grep", word, file]


def namespace(kind: str) -> str:
    """The machine's, as a pattern."""
    return re.escape(os.readlink(f"/proc/self/ns/{kind}")) + "\n"


def limit(v1: str, v2: str) -> list[str]:
    """One of two files of the container's cgroup."""
    return sh(f"cd /sys/fs/cgroup; cat {v1} 2>/dev/null || cat {v2}")


ROWS = {
    "terminal": Row("-t", ["tty"], "/dev/pts/0\n"),
    "terminal of a user": Row("-t -u 1000", sh("tty; echo a >$(tty)"), "/dev/pts/0\na\n"),
    "no terminal": Row("", ["tty"], "not a tty\n", 1),
    "init": Row("--init", ["cat", "/proc/1/comm"], "(docker|podman)-init\n", 0, INITS),
    "seccomp, default": Row("", line("Seccomp:"), "Seccomp:\t2\n"),
    "seccomp, unconfined": Row("--security-opt seccomp=unconfined", line("Seccomp:"), "Seccomp:\t0\n"),
    "no new privileges": Row("--security-opt no-new-privileges", line("NoNewPrivs"), "NoNewPrivs:\t1\n"),
    "capabilities, default": Row("", line("CapEff"), "CapEff:\t0000000[0-9a-f]*fb\n"),
    "capabilities, inheritable": Row("", line("CapInh"), "CapInh:\t0000000000000000\n"),
    "capabilities, none": Row("--cap-drop ALL", line("CapBnd"), "CapBnd:\t0000000000000000\n"),
    "capabilities, one": Row("--cap-drop ALL --cap-add NET_ADMIN", line("CapBnd"), "CapBnd:\t0000000000001000\n"),
    "capabilities of a user": Row("-u 1000", line("CapEff"), "CapEff:\t0000000000000000\n"),
    # docker's 20.10 knows no capability that is newer than it
    "privileged": Row("--privileged", line("CapEff"), "CapEff:\t0000003ffeffffff\n|" + f"CapEff:\t{ALL}\n"),
    "privileged, seccomp": Row("--privileged", line("Seccomp:"), "Seccomp:\t0\n"),
    "privileged, paths": Row("--privileged", sh("echo > /proc/sys/kernel/msgmax 8192; echo $?"), "0\n"),
    "paths": Row("", sh("echo > /proc/sys/kernel/msgmax 8192"), ".*Read-only file system\n", 1),
    "masked": Row("", sh("ls -A /sys/firmware; cat /proc/keys /proc/timer_list"), ""),
    "user": Row("-u 1000:50", ["id"], r"uid=1000\(app\) gid=50\(staff\) groups=50\(staff\)\n"),
    "user by name": Row("-u app", sh("id -u; id -G"), "1000\n(50 1000|1000 50)\n"),
    "groups": Row("-u 1000:50 --group-add 7", ["id", "-G"], "50 7\n|7 50\n"),
    "working directory": Row("-w /home/app", ["pwd"], "/home/app\n"),
    "environment": Row("-e A=1 -e B", sh("echo $A$B"), "1\n"),
    "host name": Row("-h box", ["hostname"], "box\n"),
    "read-only": Row("--read-only", sh("touch /x"), "touch: /x: Read-only file system\n", 1),
    "tmpfs": Row("--tmpfs /t:size=64k", line(" /t ", "/proc/mounts"), "tmpfs /t .*nosuid,nodev.*size=64k.*\n"),
    "shm": Row("--shm-size 4m", sh("df /dev/shm | tail -1"), "shm +4096 .*\n"),
    "volume": Row("-v /etc:/m/a:ro", sh("cat /m/a/hostname; touch /m/a/x"), "(?s).*Read-only file system\n", 1),
    "device": Row("--device /dev/kmsg:/dev/mine", sh("stat -c %t:%T /dev/mine; echo probe >/dev/mine"), "1:b\n"),
    "device, to read": Row("--device /dev/kmsg:/dev/mine:r", sh("echo >/dev/mine"), ".*Operation not permitted\n", 1),
    "ulimit": Row(f"--ulimit nofile=100:200 {LIMITS}", sh("ulimit -n; ulimit -Hn"), "100\n200\n"),
    "core limit": Row(f"--ulimit core=0 --ulimit nofile=100:200 {LIMITS}", sh("ulimit -c"), "0\n"),
    "pids": Row("--pids-limit 20", limit("pids/pids.max", "pids.max"), "20\n"),
    "pids, kept": Row("--pids-limit 5", sh("for i in 1 2 3 4 5 6; do sleep 1 & done; wait"), "(?s).*can't fork.*", 2),
    "memory": Row("-m 32m", limit("memory/memory.limit_in_bytes", "memory.max"), f"{32 << 20}\n"),
    "cpus": Row("--cpus 0.5", limit("cpu/cpu.cfs_quota_us", "cpu.max"), "50000( 100000)?\n"),
    "cpu shares": Row("--cpu-shares 77", limit("cpu/cpu.shares", "cpu.weight"), "(77|3)\n"),
    "cpu set": Row(f"--cpuset-cpus {CPU}", line("Cpus_allowed_list"), f"Cpus_allowed_list:\t{CPU}\n"),
    "oom score": Row("--oom-score-adj 500", ["cat", "/proc/self/oom_score_adj"], "500\n"),
    "sysctl": Row("--sysctl kernel.msgmax=1000", ["cat", "/proc/sys/kernel/msgmax"], "1000\n"),
    "network, none": Row("--network none", ["ls", "/sys/class/net"], "lo\n"),
    "network, host": Row("--network host", ["readlink", "/proc/self/ns/net"], namespace("net")),
    "pids, host": Row("--pid host", ["readlink", "/proc/self/ns/pid"], namespace("pid")),
    "ipc, host": Row("--ipc host", ["readlink", "/proc/self/ns/ipc"], namespace("ipc")),
    "uts, host": Row("--uts host", ["readlink", "/proc/self/ns/uts"], namespace("uts")),
    "a signal that ends it": Row("--init", sh("kill -TERM $$"), "", 143, INITS),
    "out of memory": Row("-m 16m --memory-swap 16m", ["tail", "/dev/zero"], "", 137),
    "a program that is none": Row("", ["/bin/notexec"], "(?s).*permission denied.*", 126),
    "a directory": Row("", ["/bin"], "(?s).*is a directory.*", 126),
}


@pytest.fixture(scope="module", params=list(OPENERS))
def house(request: pytest.FixtureRequest, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A caller for all rows. Its first container comes before a test counts: what is made once stays to the end."""
    with apart(tmp_path_factory.mktemp(request.param)) as caller:
        made = OPENERS[request.param](caller, image)
        assert made.run("true", options=["--rm", "--network", "none"]).code == 0
        yield made


@pytest.fixture(autouse=True)
def emptied(house: House, nothing_left_behind: None) -> Iterator[None]:
    """Nothing is left after a row: neither with the caller nor, below --root, with us."""
    yield
    house.empty()


@pytest.mark.parametrize("name", ROWS)
def test_option(house: House, name: str) -> None:
    row = ROWS[name]
    if row.needs:
        needs(*row.needs)
    options = ["--rm", *row.options.split()]
    if "--network" not in options:
        options += ["--network", "none"]
    done = house.run(*row.program, options=options)
    said = done.stdout + done.stderr
    assert done.code == row.code, said
    assert re.fullmatch(row.output, said), said


def test_a_terminal_to_and_fro(house: House) -> None:
    """run -it and exec -it: what is typed arrives, is echoed, and ends it by its exit code."""
    script = "tty; echo ready; read word; echo got-$word; exit 5"
    common = ["--rm", "-it", "--network", "none", "--cgroup-parent", f"/{PARENT}", *house.options]
    code, seen = at_a_terminal(
        house.caller, *house.cli, "run", *common, house.image, *sh(script), typed=b"hello\n", answer=b"got-hello"
    )
    assert (code, b"/dev/pts/0" in seen, b"got-hello\r\n" in seen) == (5, True, True), seen
    house.start("one", "sleep", "1000", options=["--network", "none"])
    code, seen = at_a_terminal(
        house.caller, *house.cli, "exec", "-it", "one", *sh(script), typed=b"hello\n", answer=b"got-hello"
    )
    assert (code, b"got-hello\r\n" in seen) == (5, True), seen


def test_an_interrupt_at_a_terminal(house: House) -> None:
    """Ctrl-C reaches the program as SIGINT, by the container's own line discipline."""
    script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    house.start("one", "sleep", "1000", options=["--network", "none"])
    code, seen = at_a_terminal(
        house.caller, *house.cli, "exec", "-it", "one", *sh(script), typed=b"\x03", answer=b"caught"
    )
    assert (code, b"caught\r\n" in seen) == (3, True), seen


def test_exec(house: House) -> None:
    house.start("one", "sleep", "1000", options=["--network", "none", "-e", "A=own"])
    assert house.must("exec", "one", *sh("echo $A; pwd")) == "own\n/\n"
    options = ["-u", "1000:50", "-w", "/tmp", "-e", "A=b"]
    assert house.must("exec", *options, "one", *sh("id -u; id -g; pwd; echo $A")) == "1000\n50\n/tmp\nb\n"
    assert house.must("exec", "-t", "one", "tty") == "/dev/pts/0\n"
    assert house.must("exec", "one", *line("CapInh")) == "CapInh:\t0000000000000000\n"
    assert house.must("exec", "--privileged", "one", *line("CapEff")) > "CapEff:\t0000003"
    assert house("exec", "one", *sh("kill -9 $$")).code == 137
    house.must("exec", "-d", "one", "sleep", "777")
    until(lambda: "sleep 777" in house.must("top", "one"), "the detached exec is seen")
    assert house("exec", "one", "sh", "-c", "echo in; echo err >&2; exit 4") == (4, "in\n", "err\n")


def test_stats_events_update_pause(house: House) -> None:
    since = str(int(time.time()))
    house.start("one", "sleep", "1000", options=["-m", "64m", "--network", "none"])
    assert "64MiB" in house.must("stats", "--no-stream", "one").replace("67.11MB", "64MiB")
    house.must("update", "-m", "128m", "--memory-swap", "128m", "--cpu-shares", "99", "one")
    read = limit("memory/memory.limit_in_bytes", "memory.max")
    assert house.must("exec", "one", *read) == f"{128 << 20}\n"
    house.must("pause", "one")
    assert house.inspect("one", "{{.State.Status}}") == "paused"
    assert house("exec", "one", "true").code != 0
    house.must("unpause", "one")
    assert house.inspect("one", "{{.State.Status}}") == "running"
    house.must("kill", "one")
    assert house.must("wait", "one") == "137\n"
    until_now = str(int(time.time()) + 1)
    told = house.must("events", "--since", since, "--until", until_now, "--filter", "container=one")
    order = [told.find(f" {word}") for word in ("create", "start", "pause", "unpause", "die")]
    assert -1 not in order or house.name == "podman", told  # podman says init and died
    assert "die" in told


@pytest.mark.parametrize(("number", "code"), [("TERM", 143), ("KILL", 137), ("USR1", 9), ("HUP", 129)])
def test_signals(house: House, number: str, code: int) -> None:
    """As sent by `kill`: to pid 1, which has a handler for one of them and an init above it for the others."""
    needs(*INITS)
    script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done"
    house.start("one", *sh(script), options=["--init", "--network", "none"])
    until(lambda: "ready" in house.must("logs", "one"), "its handler is there")
    house.must("kill", "-s", number, "one")
    assert house.must("wait", "one") == f"{code}\n"
    assert house.inspect("one", "{{.State.ExitCode}}") == str(code)


def test_out_of_memory_is_known(house: House) -> None:
    options = ["--name", "one", "-m", "16m", "--memory-swap", "16m", "--network", "none"]
    assert house.run("tail", "/dev/zero", options=options).code == 137
    # podman's 4.3 does not hear of it on cgroup v1, from conmon, with any runtime
    known = "{{.State.OOMKilled}} {{.State.ExitCode}}" if house.name == "docker" else "true {{.State.ExitCode}}"
    assert house.inspect("one", known) == "true 137"


def test_a_start_that_fails(house: House) -> None:
    """What create cannot see: the container is there, and goes again with its caller's shim."""
    for _ in range(3):
        done = house.run("/bin/nointerp", options=["--rm", "--network", "none"])
        assert done.code in (125, 126)
        assert "its interpreter is missing" in done.stderr


def test_the_cgroup_is_below_its_parent(house: House) -> None:
    house.start("one", "sleep", "1000", options=["--network", "none"])
    pid = house.inspect("one", "{{.State.Pid}}")
    places = [line.split(":")[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    assert {place.split("/")[1] for place in places if place != "/"} == {PARENT}


def test_namespaces_of_another(house: House) -> None:
    house.start("one", "sleep", "1000", options=["--network", "none", "--ipc", "shareable"])
    theirs = house.must("exec", "one", *sh("cd /proc/1/ns; for kind in net ipc pid; do readlink $kind; done"))
    options = ["--rm", *(f"--{kind}=container:one" for kind in ("network", "ipc", "pid"))]
    assert (
        house.run(*sh("cd /proc/self/ns; for kind in net ipc pid; do readlink $kind; done"), options=options).stdout
        == theirs
    )


def test_restart(house: House) -> None:
    house.start("one", *sh("echo once; sleep 1000"), options=["--network", "none"])
    house.must("restart", "-t", "0", "one")
    until(lambda: house.must("logs", "one") == "once\nonce\n", "it ran twice")
    assert house.inspect("one", "{{.State.Status}}") == "running"


def test_twenty_at_once(house: House) -> None:
    common = ["run", "--rm", "--network", "none", "--cgroup-parent", f"/{PARENT}", *house.options, house.image]
    begun = [
        subprocess.Popen(
            house.caller.words(*house.cli, *common, *sh(f"echo {number}; exit {number}")),
            env=house.caller.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for number in range(20)
    ]
    ended = [(child.communicate(timeout=SECONDS)[0].decode(), child.returncode) for child in begun]
    assert ended == [(f"{number}\n", number) for number in range(20)]
