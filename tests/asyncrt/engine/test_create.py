"""create, start and start again; names and beginnings of ids."""

import json

import pytest

from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


def test_create_start_and_start_again(shared: Engine, image: str) -> None:
    script = "read n < /count 2>/dev/null; n=$((${n:-0}+1)); echo $n > /count; echo run $n; exit $n"
    id = shared.cli("create", "--name", "again", image, "sh", "-c", script, check=True).stdout.strip()
    record = shared.inspect("again")
    assert (record["id"], record["state"], record["pid"], record["exit"]) == (id, "created", 0, None)
    ends = []
    for n in (1, 2, 3):
        assert shared.cli("start", "again", check=True).stdout.strip() == "again"
        assert shared.cli("wait", "again", check=True).stdout == f"{n}\n"
        record = shared.inspect("again")
        assert record["exit"]["code"] == n
        ends.append(record["exit"]["ended_ns"])
        assert shared.cli("logs", "again").stdout == "".join(f"run {k}\n" for k in range(1, n + 1)), "the log goes on"
    assert ends == sorted(set(ends))


def test_start_of_one_that_runs(shared: Engine, image: str) -> None:
    shared.cli("run", "-d", "--name", "busy", image, "sleep", "600", check=True)
    done = shared.cli("start", "busy")
    assert done.returncode == 1
    assert done.stderr == "asyncrt: start busy: it is running\n"


def test_start_of_many(shared: Engine, image: str) -> None:
    ids = shared.cli("create", "--count", "20", image, "sleep", "600", check=True).stdout.split()
    assert len(set(ids)) == 20
    assert {row["state"] for row in shared.json("ps", "-a")} == {"created"}
    assert shared.json("ps") == []
    shared.cli("start", *ids, check=True)
    assert {row["id"] for row in shared.json("ps")} == set(ids)


def test_start_twice_at_the_same_moment(shared: Engine, image: str) -> None:
    id = shared.cli("create", image, "sh", "-c", "echo once; sleep 600", check=True).stdout.strip()
    commands = [shared.popen("start", id) for _ in range(6)]
    said = sorted(command.communicate(timeout=30)[1].decode().partition(": ")[2] for command in commands)
    assert sorted(command.returncode for command in commands) == [0, 1, 1, 1, 1, 1]
    name = shared.inspect(id)["name"]
    assert said[0] == ""
    assert set(said[1:]) <= {f"start {name}: it is being started already\n", f"start {name}: it is running\n"}
    until(lambda: shared.cli("logs", id).stdout == "once\n", "it wrote once")


def test_a_start_that_fails_can_be_repeated(shared: Engine, image: str) -> None:
    shared.cli("create", "--name", "late", image, "/missing", check=True)
    for _ in range(2):
        done = shared.cli("start", "late")
        assert done.returncode == 1
        assert done.stderr == "asyncrt: run /missing: no such file or directory\n"
        record = shared.inspect("late")
        assert (record["state"], record["pid"], record["exit"]) == ("created", 0, None)
        assert record["error"] == "run /missing: no such file or directory"
    shared.cli("rm", "late", check=True)


def test_a_name_in_use(shared: Engine, image: str) -> None:
    id = shared.cli("create", "--name", "only", image, "true", check=True).stdout.strip()
    for verb in (("create",), ("run",), ("run", "-d")):
        done = shared.cli(*verb, "--name", "only", image, "true")
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr == f'asyncrt: create container "only": the name is used by {id[:12]} (choose another)\n'
    shared.cli("create", "--name", "crew-3", image, "true", check=True)
    done = shared.cli("run", "-d", "--count", "5", "--name", "crew", image, "true")
    assert done.returncode == 125
    assert 'container "crew-3": the name is used' in done.stderr
    assert len(shared.ids()) == 2, "all of a request, or none"
    shared.cli("rm", "only", check=True)
    shared.cli("create", "--name", "only", image, "true", check=True)


def test_names_claimed_at_the_same_moment(shared: Engine, image: str) -> None:
    commands = [shared.popen("create", "--name", "wanted", image, "true") for _ in range(8)]
    outs = [command.communicate(timeout=30)[0] for command in commands]
    assert sorted(command.returncode for command in commands) == [0] + [125] * 7
    assert shared.ids() == [out.decode().strip() for out in outs if out]


def test_finding_by_name_id_and_beginning(shared: Engine, image: str) -> None:
    ids = shared.cli("create", "--count", "40", "--name", "herd", image, "true", check=True).stdout.split()
    assert shared.inspect("herd-7")["index"] == 6
    assert shared.inspect(ids[0])["id"] == ids[0]
    assert shared.inspect(ids[0][:12])["id"] == ids[0]
    digits = [id[0] for id in ids]
    twice = next(digit for digit in digits if digits.count(digit) > 1)  # 40 ids, 16 digits
    done = shared.cli("inspect", twice)
    assert done.returncode == 1
    count = digits.count(twice)
    assert done.stderr == f"asyncrt: inspect {twice}: {count} containers begin with it (give more of the id)\n"
    done = shared.cli("inspect", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "asyncrt: inspect nobody: there is no such container (see asyncrt ps -a)\n"


def test_deeds_on_several_some_unknown(shared: Engine, image: str) -> None:
    shared.cli("create", "--name", "known", image, "true", check=True)
    done = shared.cli("rm", "unknown", "known")
    assert (done.returncode, done.stdout) == (1, "known\n")
    assert done.stderr == "asyncrt: remove unknown: there is no such container (see asyncrt ps -a)\n"
    assert shared.ids() == []


def test_ps_shows_the_states(shared: Engine, image: str) -> None:
    shared.cli("create", "--name", "fresh", image, "true", check=True)
    shared.cli("run", "-d", "--name", "busy", image, "sleep", "600", check=True)
    shared.cli("run", "--name", "done", image, "sh", "-c", "exit 3")
    assert {row["name"]: row["state"] for row in shared.json("ps", "-a")} == {
        "fresh": "created",
        "busy": "running",
        "done": "stopped",
    }
    assert [row["name"] for row in shared.json("ps")] == ["busy"]
    table = shared.cli("ps", "-a", check=True).stdout.splitlines()
    assert table[0].startswith("CONTAINER ID")
    assert "Exited (3)" in next(line for line in table if " done " in line)
    assert json.loads(shared.cli("ps", "-a", "--format", "json", check=True).stdout)
