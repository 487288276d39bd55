"""Hooks: which when, where, with what; and what their failure does (runtime-spec config.md, runtime.md)."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.shimd.command.runtime import Runtime, cgroups_of
from tests.shimd.configs import MOUNTS, config, shell

pytestmark = pytest.mark.root

C = f"asyncrt-oci-{os.getpid()}-hooks"
MOMENTS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
# A line for each hook: moment, arguments, environment, mount namespace, then the state as it came.
SCRIPT = 'read -r state; echo "$0 $1 $MARK $(readlink /proc/self/ns/mnt) $state" >>{log}'


@pytest.fixture
def log(oci: Runtime) -> Path:
    path = oci.folder / "log"
    path.write_text("")
    return path


def hook(moment: str, log: Path) -> dict[str, Any]:
    """startContainer alone runs in the container's root: there the log is /tmp/log."""
    place = "/tmp/log" if moment == "startContainer" else str(log)
    args = ["sh", "-c", SCRIPT.format(log=place), moment, "first"]
    return {"path": "/bin/sh", "args": args, "env": ["PATH=/bin:/usr/bin", f"MARK={moment.upper()}"]}


def bundle(oci: Runtime, hooks: dict[str, Any], *args: str) -> str:
    mounts = [*MOUNTS, {"destination": "/tmp", "type": "bind", "source": str(oci.folder), "options": ["bind", "rw"]}]
    return str(oci.bundle({**config(*(args or ("sleep", "100")), mounts=mounts), "hooks": hooks}))


def lines(log: Path) -> list[list[str]]:
    return [line.split(" ", 4) for line in log.read_text().splitlines()]


def test_every_hook_in_its_order_place_and_state(oci: Runtime, log: Path) -> None:
    place = bundle(oci, {moment: [hook(moment, log)] for moment in MOMENTS})
    oci.must("create", "-b", place, C)
    pid = oci.state(C)["pid"]
    assert [line[0] for line in lines(log)] == ["prestart", "createRuntime", "createContainer"]
    oci.must("start", C)
    oci.must("delete", "-f", C)
    told = lines(log)
    assert [line[0] for line in told] == list(MOMENTS)
    assert [line[2] for line in told] == [moment.upper() for moment in MOMENTS]
    states = {line[0]: json.loads(line[4]) for line in told}
    statuses = [states[moment]["status"] for moment in MOMENTS]
    assert statuses == ["creating", "creating", "creating", "created", "running", "stopped"]
    assert all(state["id"] == C and state["bundle"] == place for state in states.values())
    pids = [states[moment].get("pid") for moment in MOMENTS]
    assert pids == [pid, pid, 1, 1, pid, None]
    ours = os.readlink("/proc/self/ns/mnt")
    inside = [line[3] != ours for line in told]
    assert inside == [False, False, True, True, False, False]


@pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
def test_a_failure_before_created_undoes_everything(oci: Runtime, log: Path, moment: str) -> None:
    bad = {"path": "/bin/sh", "args": ["sh", "-c", "echo no reason given >&2; exit 3"]}
    place = bundle(oci, {moment: [bad], "poststop": [hook("poststop", log)]})
    words = oci.fails("create", "-b", place, C)
    assert f"error running hook /bin/sh: {moment} hook failed with exit code 3: no reason given" in words
    assert oci.ids() == []
    assert cgroups_of(C) == []
    assert [line[0] for line in lines(log)] == ["poststop"]


def test_the_first_failure_is_the_last_hook(oci: Runtime, log: Path) -> None:
    place = bundle(oci, {"createRuntime": [{"path": "/bin/false"}, hook("createRuntime", log)]})
    oci.fails("create", "-b", place, C)
    assert lines(log) == []


def test_a_failed_start_container_hook_ends_the_container(oci: Runtime, log: Path) -> None:
    """runtime.md, "Lifecycle", 7: and it is destroyed, and its poststop hooks run (12, 13)."""
    held = {"startContainer": [{"path": "/bin/false"}], "poststop": [hook("poststop", log)]}
    place = bundle(oci, held, "touch", "/tmp/ran")
    said = "error running hook /bin/false: startContainer hook failed with exit code 1"
    for deed in ("start", "run"):
        if deed == "start":
            oci.must("create", "-b", place, C)
            assert said in oci.fails("start", C)
        else:
            assert said in oci.fails("run", "-b", place, C)
        assert oci.ids() == []
        assert cgroups_of(C) == []
        assert not (oci.folder / "ran").exists()
    assert [line[0] for line in lines(log)] == ["poststop", "poststop"]


def test_a_program_that_cannot_be_run_leaves_a_stopped_container(oci: Runtime) -> None:
    """That is no hook's failure: callers delete it, as they do with runc."""
    place = bundle(oci, {"startContainer": [{"path": "/bin/true"}]}, "/bin/garbage")
    oci.must("create", "-b", place, C)
    assert "exec format error" in oci.fails("start", C)
    oci.await_status(C, "stopped")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hook_begins_with_usual_signals(oci: Runtime, log: Path, moment: str) -> None:
    """Python ignores SIGPIPE and SIGXFSZ from its first moment on, which execve(2) would hand on."""
    path = "/tmp/log" if moment == "startContainer" else str(log)
    asks = {"path": "/bin/sh", "args": ["sh", "-c", f"grep -E 'Sig(Ign|Blk)' /proc/self/status >{path}"]}
    oci.must("run", "-b", bundle(oci, {moment: [{**asks, "env": ["PATH=/bin:/usr/bin"]}]}, "true"), C)
    blocked, ignored = (int(line.split()[1], 16) for line in log.read_text().splitlines())
    assert (blocked, ignored & (1 << 12 | 1 << 24)) == (0, 0)


FORBID = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}


@pytest.mark.parametrize("wish", [True, False])
def test_a_start_container_hook_runs_under_the_programs_filter(oci: Runtime, wish: bool) -> None:
    """As with runc: what it executes is the container's. And the program still does."""
    filter = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [FORBID]}
    document = shell("echo ran", process={"noNewPrivileges": wish}, linux={"seccomp": filter})

    def with_hook(*words: str) -> str:
        hooks = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", *words], "env": ["PATH=/bin"]}]}
        return str(oci.bundle({**document, "hooks": hooks}))

    bad = oci.fails("run", "-b", with_hook("exec mkdir /tmp/a"), C)
    assert "error running hook /bin/sh: startContainer hook was killed by signal 31, bad system call" in bad
    assert oci.must("run", "-b", with_hook("exec grep -q 'Seccomp:.2' /proc/self/status"), C).stdout == "ran\n"


def test_a_filter_that_forbids_what_hooks_are_started_with_forbids_no_hook(oci: Runtime) -> None:
    """Docker's profile answers clone3 with ENOSYS, and ours starts a hook by that."""
    wish = {"names": ["clone3", "memfd_create", "pipe2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    filter = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [wish]}
    document = shell("echo ran", process={"noNewPrivileges": True}, linux={"seccomp": filter})
    document["hooks"] = {"startContainer": [{"path": "/bin/true"}]}
    assert oci.must("run", "-b", str(oci.bundle(document)), C).stdout == "ran\n"


def test_hooks_share_the_listener_of_the_program(oci: Runtime) -> None:
    """One listener a start is what an agent expects (config-linux.md, "Seccomp"), be there hooks or not."""
    path = oci.folder / "agent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        filter = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": str(path),
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        }
        document = config("true", process={"noNewPrivileges": True}, linux={"seccomp": filter})
        ask = "grep -q 'Seccomp:.2' /proc/self/status && exec ls /proc/self/fd"
        document["hooks"] = {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", ask], "env": ["PATH=/bin"]}]}
        oci.must("run", "-b", str(oci.bundle(document)), C)
        server.setblocking(False)
        line, _ = server.accept()
        line.close()
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_failed_poststart_hook_stops_the_container(oci: Runtime, log: Path) -> None:
    """runtime.md, "Lifecycle", 9: and it is destroyed, and its poststop hooks run (12, 13)."""
    place = bundle(oci, {"poststart": [{"path": "/bin/false"}], "poststop": [hook("poststop", log)]})
    oci.must("create", "-b", place, C)
    assert "error running hook /bin/false: poststart hook failed with exit code 1" in oci.fails("start", C)
    assert oci.ids() == []
    assert cgroups_of(C) == []
    assert [line[0] for line in lines(log)] == ["poststop"]


def test_a_failed_poststart_hook_of_run(oci: Runtime, log: Path) -> None:
    place = bundle(oci, {"poststart": [{"path": "/bin/false"}], "poststop": [hook("poststop", log)]})
    assert "poststart hook failed" in oci.fails("run", "-d", "-b", place, C)
    assert oci.ids() == []
    assert [line[0] for line in lines(log)] == ["poststop"]


ENV = ["sh", "-c", 'echo "$MARK" >>"$0"']


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_hook_without_env(oci: Runtime, moment: str) -> None:
    """The runtime's own environment; but inside the container that of its process, which never comes out of it."""
    seen = oci.folder / "seen"
    inside = moment == "startContainer"
    path = "/tmp/seen" if inside else str(seen)
    asks = {"path": "/bin/sh", "args": [*ENV, path]}
    place = bundle(oci, {moment: [asks, {**asks, "env": []}, {**asks, "env": ["MARK=own"]}]}, "true")
    document = json.loads(Path(place, "config.json").read_text())
    document["process"]["env"] = ["PATH=/bin", "MARK=containers"]
    Path(place, "config.json").write_text(json.dumps(document))
    oci.must("run", "-b", place, C, MARK="runtimes")
    assert seen.read_text().splitlines() == ["containers" if inside else "runtimes", "", "own"]


def test_a_failed_poststop_hook_warns_and_the_next_runs(oci: Runtime, log: Path) -> None:
    place = bundle(oci, {"poststop": [{"path": "/bin/false"}, hook("poststop", log)]})
    oci.must("create", "-b", place, C)
    result = oci.must("delete", "-f", C)
    assert "error running hook /bin/false: poststop hook failed with exit code 1" in result.warnings
    assert [line[0] for line in lines(log)] == ["poststop"]
    assert oci.ids() == []


def test_a_hook_that_takes_too_long_is_killed_with_what_it_started(oci: Runtime) -> None:
    pids = oci.folder / "pids"
    slow = {"path": "/bin/sh", "args": ["sh", "-c", f"sleep 60 & echo $! $$ >{pids}; wait"], "timeout": 1}
    words = oci.fails("create", "-b", bundle(oci, {"createRuntime": [slow]}), C)
    assert "createRuntime hook took longer than 1 s" in words
    assert not any(Path(f"/proc/{pid}/cmdline").exists() and _sleeps(pid) for pid in pids.read_text().split())
    assert cgroups_of(C) == []


def _sleeps(pid: str) -> bool:
    try:
        return b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_hook_that_is_not_there(oci: Runtime) -> None:
    words = oci.fails("create", "-b", bundle(oci, {"createRuntime": [{"path": "/no/such/hook"}]}), C)
    assert "/no/such/hook" in words
    assert "no such file or directory" in words


def test_a_hook_without_args_gets_none(oci: Runtime) -> None:
    out = oci.folder / "seen"
    program = oci.folder / "hook.sh"
    program.write_text(f"#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ | tr '\\0' '\\n' >{out}\n")
    program.chmod(0o755)
    oci.must("create", "-b", bundle(oci, {"createRuntime": [{"path": str(program), "env": []}]}), C)
    assert out.read_text().split() == ["/bin/sh", str(program)]


def test_a_hook_may_ask_for_the_state(oci: Runtime) -> None:
    out = oci.folder / "status"
    words = " ".join(oci.command("state", C))
    ask = {"path": "/bin/sh", "args": ["sh", "-c", f"cd {os.getcwd()} && {words} >{out}"], "env": ["PATH=/bin"]}
    oci.must("create", "-b", bundle(oci, {"createRuntime": [ask]}), C)
    assert json.loads(out.read_text())["status"] == "creating"


def test_a_hook_that_does_not_read_its_state_and_leaves_a_child(oci: Runtime) -> None:
    big = {"annotation": "x" * 200_000}
    document = config("sleep", "100")
    lazy = {"path": "/bin/sh", "args": ["sh", "-c", "sleep 2 & exit 0"], "env": ["PATH=/bin"]}
    place = oci.bundle({**document, "annotations": big, "hooks": {"createRuntime": [lazy]}})
    oci.must("create", "-b", str(place), C)
    assert oci.status(C) == "created"
