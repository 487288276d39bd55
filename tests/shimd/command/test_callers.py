"""podman, containerd and dockerd with asyncrt-oci in runc's place: run, exec, stop, remove, exit codes, logs."""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shimd.command.version import version
from tests.patience import until
from tests.shimd.command.callers import (
    ASYNCRT,
    PARENT,
    Caller,
    Done,
    House,
    apart,
    containerd,
    docker,
    podman,
    start_dockerd,
)

pytestmark = [pytest.mark.root, pytest.mark.slow]
MISSING = 'exec: "no-such-program": executable file not found in $PATH'


@pytest.mark.parametrize("opened", [podman, docker])
def test_the_usual(opened: Callable[[Caller, Path], House], image: Path, tmp_path: Path) -> None:
    """What podman and docker spell alike."""
    with apart(tmp_path) as caller:
        the_usual(opened(caller, image))


def the_usual(house: House) -> None:
    cli, caller, name = house.cli, house.caller, house.image
    run = [*cli, "run", "--net", "none", f"--cgroup-parent=/{PARENT}", *house.options]
    assert caller.must(*run, "--rm", name, "echo", "hello") == "hello\n"
    assert caller.run(*run, "--rm", name, "sh", "-c", "exit 7").code == 7
    missing = caller.run(*run, "--rm", name, "no-such-program")
    assert missing.code == 127
    assert MISSING in missing.stderr
    caller.must(*run, "-d", "--name", "one", "-m", "64m", name, "sh", "-c", "echo out; echo err >&2; sleep 1000")
    done = caller.run(*cli, "exec", "one", "sh", "-c", "echo in; exit 4")
    assert (done.code, done.stdout) == (4, "in\n")
    missing = caller.run(*cli, "exec", "one", "no-such-program")
    assert missing.code in (126, 127)  # docker's 20.10 says 126, and on stdout, with any runtime
    assert MISSING in missing.stdout + missing.stderr
    limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"
    assert caller.run(*cli, "exec", "one", "cat", *limits).stdout.split() == [str(64 << 20)]
    logs = caller.run(*cli, "logs", "one")
    assert "out\n" in logs.stdout + logs.stderr
    assert "err\n" in logs.stdout + logs.stderr
    caller.must(*cli, "pause", "one")
    assert caller.must(*cli, "inspect", "-f", "{{.State.Status}}", "one") == "paused\n"
    caller.must(*cli, "unpause", "one")
    caller.must(*cli, "stop", "-t", "1", "one")
    assert caller.must(*cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 137\n"
    caller.must(*cli, "start", "one")
    assert caller.must(*cli, "exec", "one", "echo", "again") == "again\n"
    caller.must(*cli, "rm", "-f", "one")
    assert caller.must(*cli, "ps", "-aq") == ""


def test_docker_reads_the_version_as_ours(image: Path, tmp_path: Path) -> None:
    """Though the line begins with a form for those who look for runc's."""
    with apart(tmp_path) as caller:
        docker(caller, image)
        parts = json.loads(caller.must("docker", "version", "-f", "{{json .Server.Components}}"))
        versions = {part["Name"]: (part["Version"], part["Details"]["GitCommit"]) for part in parts}
        assert versions["asyncrt"] == (version(), version())


def test_containerd(image: Path, tmp_path: Path) -> None:
    with apart(tmp_path) as caller:
        with_ctr(caller, containerd(caller, image))


STATUS = "/proc/self/status"
CTR_ROWS: dict[str, tuple[str, list[str], str]] = {
    "read-only": ("--read-only", ["sh", "-c", "touch /x 2>&1; true"], "touch: /x: Read-only file system\n"),
    "environment": ("--env A=1", ["sh", "-c", "echo $A"], "1\n"),
    "working directory": ("--cwd /tmp", ["pwd"], "/tmp\n"),
    "host's network": ("--net-host", ["readlink", "/proc/self/ns/net"], os.readlink("/proc/self/ns/net") + "\n"),
    "volume": (
        "--mount type=bind,src=/etc,dst=/m,options=rbind:ro",
        ["stat", "-c", "%F", "/m/hostname"],
        "regular file\n",
    ),
    "device": ("--device /dev/kmsg", ["stat", "-c", "%t:%T", "/dev/kmsg"], "1:b\n"),
    "seccomp": ("--seccomp", ["grep", "Seccomp:", STATUS], "Seccomp:\t2\n"),
    "no seccomp": ("", ["grep", "Seccomp:", STATUS], "Seccomp:\t0\n"),
    "a capability less": ("--cap-drop CAP_KILL", ["grep", "CapBnd", STATUS], "CapBnd:\t00000000a80425db\n"),
    "privileged": ("--privileged", ["sh", "-c", "echo > /proc/sys/kernel/msgmax 8192; echo $?"], "0\n"),
    "no pivot_root": ("--no-pivot", ["echo", "moved"], "moved\n"),
}


def with_ctr(caller: Caller, ctr: list[str]) -> None:
    runtime = [
        "--runtime",
        "io.containerd.runc.v2",
        "--runc-binary",
        str(ASYNCRT),
        "--runc-root",
        f"{caller.folder}/oci",
    ]

    def run(id: str, *words: str, options: Sequence[str] = ("--rm",)) -> Done:
        place = ["--cgroup", f"/{PARENT}/{id}"]
        return caller.run(*ctr, "run", *options, *runtime, *place, "localhost/test:latest", id, *words)

    assert run("a", "echo", "hello").stdout == "hello\n"
    assert run("b", "sh", "-c", "exit 7").code == 7
    assert MISSING in run("c", "no-such-program").stderr
    caller.run(*ctr, "container", "rm", "c")
    for name, (options, words, said) in CTR_ROWS.items():
        done = run("row", *words, options=("--rm", *options.split()))
        assert (done.code, done.stdout) == (0, said), (name, done)
    started = run("d", "sleep", "1000", options=("-d",))
    assert started.code == 0, started.stderr
    done = caller.run(*ctr, "task", "exec", "--exec-id", "e", "d", "sh", "-c", "echo in; exit 4")
    assert (done.code, done.stdout) == (4, "in\n")
    assert MISSING in caller.run(*ctr, "task", "exec", "--exec-id", "f", "d", "no-such-program").stderr

    caller.must(*ctr, "task", "exec", "-d", "--exec-id", "h", "d", "sleep", "777")
    until(lambda: len(caller.must(*ctr, "task", "ps", "d").splitlines()) == 3, "a heading and two processes")

    def status() -> str:
        return caller.must(*ctr, "task", "ls").splitlines()[1].split()[2]

    caller.must(*ctr, "task", "pause", "d")
    assert status() == "PAUSED"
    caller.must(*ctr, "task", "resume", "d")
    assert "d" in caller.must(*ctr, "task", "metrics", "d")
    caller.must(*ctr, "task", "kill", "-s", "KILL", "d")
    until(lambda: status() == "STOPPED", "it stopped")
    caller.run(*ctr, "task", "rm", "d")
    caller.must(*ctr, "container", "rm", "d")
    assert caller.must(*ctr, "container", "ls", "-q") == ""
    assert os.listdir(caller.folder / "oci/default") == []
    time.sleep(0.2)  # its shim goes after its answer


@pytest.mark.parametrize("how", [15, 9])
def test_a_dockerd_that_starts_again(image: Path, tmp_path: Path, how: int) -> None:
    """Without live-restore dockerd ends what runs, and after a kill finds it; either way nothing is left of it."""
    with apart(tmp_path) as caller:
        house = docker(caller, image)
        house.start("one", "sleep", "1000", options=["--network", "none"])
        pid = int(house.inspect("one", "{{.State.Pid}}"))
        caller.end_daemon(how)
        start_dockerd(caller)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the container has ended")
        until(lambda: house.inspect("one", "{{.State.Status}}") == "exited", "dockerd knows")
        house.must("start", "one")
        assert house.must("exec", "one", "echo", "again") == "again\n"
        house.empty()
