"""The main job: many containers with one command, all running, each with its own output and exit code."""

import json
from pathlib import Path

import pytest

from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

PHASES = ["request", "queue", "zygote", "cgroup", "namespaces", "mounts", "exec"]


@pytest.mark.parametrize("count", [50, pytest.param(300, marks=pytest.mark.slow)])
def test_many_run_at_once_and_are_gone_at_once(engine: Engine, image: str, count: int) -> None:
    done = engine.cli("run", "-d", "--count", str(count), image, "sleep", "600", check=True, timeout=120)
    ids = done.stdout.split()
    assert len(set(ids)) == count
    assert all(len(id) == 64 for id in ids)
    records = json.loads(engine.cli("inspect", *ids, check=True).stdout)
    assert {record["id"] for record in records} == set(ids)
    assert sorted(record["index"] for record in records) == list(range(count))
    for record in records:
        pid, shim_pid = record["pid"], record["shim_pid"]
        assert record["state"] == "running"
        assert record["exit"] is None
        assert watch.name(pid) == "sleep"
        assert watch.parent(pid) == shim_pid
        assert watch.name(shim_pid) == f"shim:{record['id'][:10]}"
        assert [entry["phase"] for entry in record["timeline"]] == PHASES
        assert all(entry["duration_ns"] >= 0 for entry in record["timeline"])
    pids = [record["pid"] for record in records]
    for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
        assert len({watch.namespace(pid, kind) for pid in [*pids, "self"]}) == count + 1, kind
    listed = engine.json("ps")
    assert {row["id"] for row in listed} == set(ids)
    assert {row["state"] for row in listed} == {"running"}
    assert {row["pid"] for row in listed} == set(pids)

    removed = engine.cli("rm", "-f", "--all", check=True, timeout=120).stdout.split()
    assert sorted(removed) == sorted(ids)
    assert engine.ids() == []
    assert [pid for pid in pids if watch.alive(pid)] == []
    shims = [record["shim_pid"] for record in records]
    until(lambda: not any(watch.alive(pid) for pid in shims), "the shims are gone")
    assert list((engine.root / "containers").iterdir()) == []
    assert list((engine.root / "snapshots").iterdir()) == []
    assert list((engine.state / "shims").iterdir()) == []


def test_all_outputs_of_a_foreground_crowd(shared: Engine, image: str) -> None:
    script = "echo out $ASYNCRT_INDEX; echo err $ASYNCRT_INDEX >&2"
    done = shared.cli("run", "--count", "20", "--name", "crew", image, "sh", "-c", script, timeout=60)
    assert done.returncode == 0, shared.story(done)
    assert sorted(done.stdout.splitlines()) == sorted(f"crew-{n + 1} | out {n}" for n in range(20))
    expected = {f"crew-{n + 1} | err {n}" for n in range(20)}
    assert expected <= set(done.stderr.splitlines())
    assert {row["exit_code"] for row in shared.json("ps", "-a")} == {0}


def test_the_code_of_a_crowd_is_the_first_by_index_that_is_not_0(shared: Engine, image: str) -> None:
    script = "case $ASYNCRT_INDEX in 3) sleep 0.5; exit 9;; 5) exit 42;; esac"
    done = shared.cli("run", "--count", "8", image, "sh", "-c", script)
    assert done.returncode == 9, shared.story(done)
    codes = {row["name"].rpartition("-")[2]: row["exit_code"] for row in shared.json("ps", "-a")}
    assert codes == {str(n + 1): {3: 9, 5: 42}.get(n, 0) for n in range(8)}


def test_a_crowd_of_missing_programs_leaves_nothing(shared: Engine, image: str) -> None:
    done = shared.cli("run", "-d", "--count", "10", image, "no-such-program")
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr.count("run no-such-program: no such file or directory") == 10
    assert shared.ids() == []


def test_rm_of_a_crowd_that_ended(shared: Engine, image: str) -> None:
    done = shared.cli("run", "--rm", "--count", "20", image, "sh", "-c", "echo $ASYNCRT_INDEX")
    assert done.returncode == 0, shared.story(done)
    assert sorted(int(line.split()[-1]) for line in done.stdout.splitlines()) == list(range(20))
    assert shared.ids() == []


def test_two_engines_do_not_see_each_other(engine: Engine, shared: Engine, image: str, tmp_path: Path) -> None:
    here = engine.cli("run", "-d", "--name", "same", "--count", "3", image, "sleep", "600", check=True)
    there = shared.cli("run", "-d", "--name", "same", "--count", "3", image, "sleep", "600", check=True)
    assert set(engine.ids()) == set(here.stdout.split())
    assert set(shared.ids()) == set(there.stdout.split())
    assert engine.supervisor_pid() != shared.supervisor_pid()
    engine.cli("rm", "-f", "--all", check=True)
    assert {row["state"] for row in shared.json("ps")} == {"running"}
    assert len(shared.json("ps")) == 3
