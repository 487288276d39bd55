"""create, start, state, kill, delete: every arrow of the table, across processes; what is refused, in which words."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shimd.linux.cgroups import hierarchies, inherit_cpuset, write
from shimd.linux.proc import lives, state_and_start
from tests.patience import until
from tests.shimd.command.runtime import Runtime, cgroups_of
from tests.shimd.configs import MOUNTS, config, shell

pytestmark = pytest.mark.root

SLEEP = config("sleep", "100")


def name(word: str) -> str:
    """An id that no other run on this machine has: it names the cgroup, too."""
    return f"asyncrt-oci-{os.getpid()}-{word}"


C = name("c")


def test_from_create_to_delete(oci: Runtime) -> None:
    bundle = oci.bundle(SLEEP)
    oci.must("create", "--bundle", str(bundle), "--pid-file", str(oci.folder / "pid"), C)
    state = oci.state(C)
    assert state["status"] == "created"
    assert state["id"] == C
    assert state["bundle"] == str(bundle)
    assert state["rootfs"] == str(oci.rootfs)
    assert state["owner"] == "root"
    assert state["pid"] == int((oci.folder / "pid").read_text())
    assert Path(f"/proc/{state['pid']}/comm").read_text().strip() != "sleep"
    oci.must("start", C)
    assert oci.status(C) == "running"
    assert Path(f"/proc/{state['pid']}/comm").read_text().strip() == "sleep"
    oci.must("kill", C, "KILL")
    oci.await_status(C, "stopped")
    assert oci.state(C)["pid"] == 0
    oci.must("delete", C)
    assert "container does not exist" in oci.fails("state", C)
    assert oci.ids() == []
    assert cgroups_of(C) == []


def test_init_is_our_parents_child_when_create_has_ended(oci: Runtime) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    stat = Path(f"/proc/{oci.state(C)['pid']}/stat").read_text()
    parent = int(stat.rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    assert lives(parent, state_and_start(parent)[1])


def test_the_programs_output_and_exit_code_are_its_own(oci: Runtime) -> None:
    result = oci("run", "-b", str(oci.bundle(shell("echo out; echo err >&2; exit 7"))), C)
    assert (result.code, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert oci.ids() == []


def test_a_program_killed_by_a_signal_is_128_and_more(oci: Runtime) -> None:
    command = oci.command("run", "-b", str(oci.bundle(SLEEP)), C)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as run:
        until(lambda: oci("state", C).code == 0 and oci.status(C) == "running", "it runs")
        oci.must("kill", C, "KILL")
        assert run.wait(10) == 128 + 9
    assert oci.ids() == []


def test_a_foreground_run_hands_signals_on(oci: Runtime) -> None:
    script = "trap 'exit 33' TERM; while :; do sleep 0.05; done"
    with subprocess.Popen(oci.command("run", "-b", str(oci.bundle(shell(script))), C)) as run:
        until(lambda: oci("state", C).code == 0 and oci.status(C) == "running", "it runs")
        until(lambda: run.poll() is not None or run.send_signal(signal.SIGTERM), "it ends")
        assert run.returncode == 33


@pytest.mark.busybox
def test_a_stopped_container_cannot_be_started_or_killed(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(shell("true"))), C)
    oci.await_status(C, "stopped")
    assert "cannot start a container that has stopped" in oci.fails("start", C)
    assert "container not running" in oci.fails("kill", C)
    assert "cannot exec in a stopped container" in oci.fails("exec", C, "true", code=255)
    assert "container not running" in oci.fails("pause", C)
    assert len(oci.must("ps", C).stdout.splitlines()) == 1
    oci.must("kill", "--all", C, "0")


def test_a_running_container_is_neither_started_nor_deleted_nor_made_again(oci: Runtime) -> None:
    bundle = str(oci.bundle(SLEEP))
    oci.must("run", "-d", "-b", bundle, C)
    assert "cannot start an already running container" in oci.fails("start", C)
    assert f"cannot delete container {C} that is not stopped: running" in oci.fails("delete", C)
    assert "already exists" in oci.fails("create", "-b", bundle, C)
    assert oci.status(C) == "running"


def test_a_created_container_can_be_deleted_and_killed(oci: Runtime) -> None:
    bundle = str(oci.bundle(SLEEP))
    oci.must("create", "-b", bundle, C)
    oci.must("delete", C)
    oci.must("create", "-b", bundle, C)
    oci.must("kill", C, "9")
    oci.await_status(C, "stopped")
    oci.must("delete", C)
    assert cgroups_of(C) == []


def test_force_deletes_what_runs_and_what_is_not_there(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("delete", "--force", C)
    oci.must("delete", "--force", C)
    assert "container does not exist" in oci.fails("delete", C)
    assert cgroups_of(C) == []


@pytest.mark.skipif(not Path("/sys/fs/cgroup/freezer").is_dir(), reason="a v2 process dies of SIGKILL though frozen")
def test_delete_force_ends_a_container_that_somebody_froze_elsewhere(oci: Runtime) -> None:
    """And thaws nobody else there."""
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    elsewhere = Path(f"/sys/fs/cgroup/freezer/{C}-elsewhere")
    elsewhere.mkdir()
    with subprocess.Popen(["sleep", "100"]) as neighbour:
        try:
            for pid in (oci.state(C)["pid"], neighbour.pid):
                (elsewhere / "cgroup.procs").write_text(str(pid))
            (elsewhere / "freezer.state").write_text("FROZEN")
            oci.must("delete", "--force", C)
            assert oci.ids() == []
            assert (elsewhere / "freezer.state").read_text() == "FROZEN\n"
            assert (elsewhere / "cgroup.procs").read_text() == f"{neighbour.pid}\n"
        finally:
            (elsewhere / "freezer.state").write_text("THAWED")
            neighbour.kill()
            neighbour.wait()
            until(lambda: not (elsewhere / "cgroup.procs").read_text(), "the cgroup is empty")
            elsewhere.rmdir()


def test_delete_by_a_regular_expression(oci: Runtime) -> None:
    place = str(oci.bundle(SLEEP))
    for id in (f"{C}-1", f"{C}-2", f"other-{C}"):
        oci.must("run", "-d", "-b", place, id)
    assert "not stopped" in oci.fails("delete", "--regex", f"^{C}-1$")
    oci.must("delete", "--force", "--regex", f"^{C}-.$")
    assert oci.ids() == [f"other-{C}"]
    oci.must("delete", "-f", "--regex", "matches-nothing")
    assert "use --regex" in oci.fails("delete", "-f", "--regex", "(")
    assert oci.ids() == [f"other-{C}"]


def test_another_file_of_the_bundle(oci: Runtime) -> None:
    place = oci.bundle(config("echo", "this one"))
    (place / "config.json").rename(place / "other.json")
    assert oci.must("run", "-b", str(place), "--config", "other.json", C).stdout == "this one\n"
    assert "other.json2" in oci.fails("run", "-b", str(place), "-f", "other.json2", C)
    assert "process: await start, then run echo" in oci.must("plan", "-b", str(place), "-f", "other.json").stdout


def test_an_exec_in_a_container_without_a_process(oci: Runtime) -> None:
    document = config("true")
    del document["process"]
    place = str(oci.bundle(document))
    oci.must("create", "-b", place, C)
    assert oci.must("exec", "-e", "PATH=/bin", C, "echo", "hello").stdout == "hello\n"
    assert "$.process: it is missing" in oci.fails("start", C)
    oci.await_status(C, "stopped")
    assert "$.process: it is missing" in oci.fails("run", "-b", place, f"{C}-run")


@pytest.mark.parametrize("verb", ["start", "state", "kill", "delete", "pause", "resume", "ps", "update"])
def test_a_container_that_is_not_there(oci: Runtime, verb: str) -> None:
    assert "container does not exist" in oci.fails(verb, "nobody")


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "ä"])
def test_an_id_that_is_no_name(oci: Runtime, id: str) -> None:
    assert oci("create", "-b", str(oci.bundle(SLEEP)), "--", id).code == 1
    assert not oci.root.exists()


def test_paused_is_the_freezers_word(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("pause", C)
    assert oci.status(C) == "paused"
    assert "it is paused" in oci.fails("pause", C)
    assert "cannot exec in a paused container" in oci.fails("exec", C, "true", code=255)
    oci.must("resume", C)
    assert oci.status(C) == "running"
    assert "it is running" in oci.fails("resume", C)


def test_a_paused_container_dies_of_kill(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("pause", C)
    oci.must("kill", C, "KILL")
    oci.await_status(C, "stopped")


def test_delete_force_ends_a_paused_container(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("pause", C)
    oci.must("delete", "-f", C)


def test_a_signal_reaches_init(oci: Runtime) -> None:
    mark = oci.folder / "mark"
    mark.write_text("")
    mounts = [*MOUNTS, {"destination": "/tmp", "type": "bind", "source": str(oci.folder), "options": ["rbind", "rw"]}]
    script = "trap 'echo got >/tmp/mark; exit 0' USR1; echo up >/tmp/mark; while :; do sleep 0.05; done"
    oci.must("run", "-d", "-b", str(oci.bundle(config("sh", "-c", script, mounts=mounts))), C)
    until(lambda: mark.read_text() == "up\n", "its trap is set")
    oci.must("kill", C, "usr1")
    oci.await_status(C, "stopped")
    assert mark.read_text() == "got\n"


def test_kill_all_reaches_everybody_of_a_shared_pid_namespace(oci: Runtime) -> None:
    shared = config("sh", "-c", "sleep 100 & exec sleep 100", namespaces=("mount", "ipc", "uts"))
    oci.must("run", "-d", "-b", str(oci.bundle(shared)), C)
    until(lambda: len(json.loads(oci.must("ps", "-f", "json", C).stdout)) == 2, "two processes")
    os.kill(oci.state(C)["pid"], signal.SIGKILL)
    oci.await_status(C, "stopped")
    oci.must("kill", "--all", C, "KILL")
    oci.must("delete", C)
    assert cgroups_of(C) == []


def in_cgroup(path: str, **changes: Any) -> dict[str, Any]:
    document = config("sleep", "100", **changes)
    document["linux"]["cgroupsPath"] = path
    return document


def test_a_cgroup_that_others_live_in_is_shared_with_a_warning(oci: Runtime) -> None:
    """Each is told apart by its pid namespace; the end of the second is not the end of the first."""
    bundle = str(oci.bundle(in_cgroup(f"/{C}")))
    oci.must("run", "-d", "-b", bundle, C)
    other = name("other")
    warnings = oci.must("run", "-d", "-b", bundle, other).warnings
    assert "container's cgroup is not empty: 1 process(es) found" in warnings
    pid = oci.state(other)["pid"]
    assert json.loads(oci.must("ps", "-f", "json", other).stdout) == [pid]
    oci.must("kill", "--all", other, "KILL")
    oci.await_status(other, "stopped")
    oci.must("delete", other)
    assert oci.status(C) == "running"
    oci.must("delete", "-f", C)
    assert cgroups_of(C) == []


def test_who_is_last_in_a_shared_cgroup_removes_it(oci: Runtime) -> None:
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        try:
            for tree in hierarchies():
                place = f"{tree.mount}/{C}"
                os.mkdir(place)
                if "cpuset" in tree.controllers and tree.version == 1:
                    inherit_cpuset(tree.mount, place)
                write(place, "cgroup.procs", str(sleeper.pid))
            oci.must("run", "-d", "-b", str(oci.bundle(in_cgroup(f"/{C}"))), C)
        finally:
            sleeper.kill()
    oci.must("delete", "-f", C)
    assert cgroups_of(C) == []


def test_a_cgroup_is_not_shared_where_nobody_could_tell_who_is_whose(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(in_cgroup(f"/{C}"))), C)
    other = oci.bundle(in_cgroup(f"/{C}", namespaces=("mount", "ipc", "uts")), "other")
    assert "without a pid namespace of its own" in oci.fails("run", "-d", "-b", str(other), name("other"))
    assert oci.status(C) == "running"
    assert oci.ids() == [C]


@pytest.mark.busybox
def test_ps_shows_the_machines_pids(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    pid = oci.state(C)["pid"]
    assert json.loads(oci.must("ps", "--format", "json", C).stdout) == [pid]
    title, line = oci.must("ps", C).stdout.splitlines()
    assert title.split()[:2] == ["UID", "PID"]
    assert line.split()[1] == str(pid)
    assert oci.must("ps", C, "-eo", "pid,comm").stdout.splitlines()[1].split() == [str(pid), "sleep"]


def test_list_has_a_table_and_json(oci: Runtime) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    title, line = oci.must("list").stdout.splitlines()
    assert title.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split()[0::2][:2] == [C, "created"]
    (entry,) = json.loads(oci.must("list", "-f", "json").stdout)
    assert entry == oci.state(C)


def test_annotations_are_in_the_state(oci: Runtime) -> None:
    oci.must("create", "-b", str(oci.bundle({**SLEEP, "annotations": {"a.b": "c"}})), C)
    assert oci.state(C)["annotations"] == {"a.b": "c"}


def test_status_is_not_fooled_by_a_pid_that_came_back(oci: Runtime) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    path = oci.root / C / "state.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "start": record["start"] + 1}))
    assert oci.status(C) == "stopped"
    path.write_text(json.dumps(record))
    assert oci.status(C) == "created"


def test_a_create_that_was_killed_is_stopped_and_can_be_deleted(oci: Runtime) -> None:
    mark = oci.folder / "hooked"
    slow = {"path": "/bin/sh", "args": ["sh", "-c", f"echo $$ >{mark}; exec sleep 60"]}
    bundle = str(oci.bundle({**SLEEP, "hooks": {"createRuntime": [slow]}}))
    with subprocess.Popen(oci.command("create", "-b", bundle, C), stdin=subprocess.DEVNULL) as create:
        until(lambda: mark.exists() and mark.read_text(), "the hook runs")
        assert oci.status(C) == "creating"
        create.kill()
    os.kill(int(mark.read_text()), signal.SIGKILL)
    oci.await_status(C, "stopped")
    oci.must("delete", C)
    assert cgroups_of(C) == []
