"""stats and top: numbers that hold against what the containers do."""

import json
import time
from itertools import pairwise

import pytest

from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


def test_one_sample_is_an_answer(shared: Engine, image: str) -> None:
    script = "dd if=/dev/zero of=/dev/shm/it bs=1M count=20 2>/dev/null; echo full; while :; do :; done"
    id = shared.cli("run", "-d", "-m", "64m", "--pids-limit", "9", image, "sh", "-c", script, check=True).stdout.strip()
    log = shared.root / "containers" / id / "stdout"
    until(lambda: log.exists(), "20 MiB of memory")
    time.sleep(0.5)
    (line,) = shared.cli("stats", "--no-stream", "--format", "json", id, check=True).stdout.splitlines()
    told = json.loads(line)
    assert (told["id"], told["memory_limit"], told["pids_limit"], told["pids"]) == (id, 64 << 20, 9, 1)
    assert told["memory"] >= 20 << 20
    assert told["cpu_ns"] > 0
    assert 5 < told["cpu_percent"] <= 105
    table = shared.cli("stats", "--no-stream", check=True).stdout.splitlines()
    assert table[0].split()[:2] == ["CONTAINER", "ID"]
    assert table[1].startswith(id[:12])


def test_a_stream_of_samples(shared: Engine, image: str) -> None:
    """CPU is of the time in between: one that begins to work after a rest shows at once."""
    script = "sleep 0.6; while :; do :; done"
    id = shared.cli("run", "-d", image, "sh", "-c", script, check=True).stdout.strip()
    with shared.popen("stats", "--interval", "0.3", "--format", "json", id) as stream:
        assert stream.stdout is not None
        seen = [json.loads(stream.stdout.readline()) for _ in range(6)]
        shared.cli("kill", id, check=True)
        rest, errors = stream.communicate(timeout=20)
        assert stream.returncode == 0, (rest, errors)
    gaps = [(after["time_ns"] - before["time_ns"]) / 1e9 for before, after in pairwise(seen)]
    assert all(gap > 0.2 for gap in gaps)
    assert seen[0]["cpu_percent"] < 50
    assert max(one["cpu_percent"] for one in seen) > 20


def test_stats_of_what_does_not_run(shared: Engine, image: str) -> None:
    id = shared.cli("create", image, "true", check=True).stdout.strip()
    refused = shared.cli("stats", "--no-stream", id)
    assert refused.returncode == 1
    assert "it is not running (it is created)" in refused.stderr
    assert shared.cli("stats", "--no-stream", "--format", "json", check=True).stdout == ""
    assert "0 s cannot be given" in shared.cli("stats", "--interval", "0").stderr


def test_many(engine: Engine, image: str) -> None:
    """The cost of a look at 60 containers: what the issue allows for 300, in proportion."""
    engine.cli("run", "-d", "--count", "60", image, "sleep", "600", check=True, timeout=60)
    supervisor = engine.supervisor_pid()
    engine.cli("stats", "--no-stream", check=True)
    before = watch.cpu_ticks(supervisor)
    for _ in range(5):
        lines = engine.cli("stats", "--no-stream", "--format", "json", check=True).stdout.splitlines()
        assert len(lines) == 60
    each_ms = (watch.cpu_ticks(supervisor) - before) * 10 / 5
    assert each_ms <= 60, f"{each_ms} ms of CPU for 60 containers"


def test_top(shared: Engine, image: str) -> None:
    id = shared.cli("run", "-d", image, "sh", "-c", "sleep 601 & exec sleep 602", check=True).stdout.strip()
    until(lambda: "sleep 602" in shared.cli("top", id, check=True).stdout, "both programs")
    found = json.loads(shared.cli("top", "--format", "json", id, check=True).stdout)
    assert sorted((one["inside"], one["command"]) for one in found) == [(1, "sleep 602"), (2, "sleep 601")]
    first = min(found, key=lambda one: one["inside"])
    assert first["pid"] == shared.inspect(id)["pid"]
    assert [one["parent"] for one in found if one is not first] == [first["pid"]]
    assert abs(first["started_ns"] - time.time_ns()) < 60e9
    refused = shared.cli("top", shared.cli("create", image, "true", check=True).stdout.strip())
    assert refused.returncode == 1
