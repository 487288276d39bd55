"""Other limits for a container that runs: what the kernel then says, and what the record keeps."""

import pytest

from shimd.linux import cgroups
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root

FILES = {
    1: {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"},
    2: {"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max"},
}


def limit(engine: Engine, id: str, controller: str) -> str:
    tree = next(tree for tree in cgroups.hierarchies() if controller in tree.controllers)
    directory = f"{tree.mount}{engine.json('info')['cgroup_parent']}/{id}"
    return cgroups.read(directory, FILES[tree.version][controller]).split()[0]


@pytest.fixture
def id(shared: Engine, image: str) -> str:
    return shared.cli("run", "-d", "-m", "64m", image, "sleep", "600", check=True).stdout.strip()


def test_all_at_once(shared: Engine, id: str) -> None:
    words = ("-m", "32m", "--cpus", "0.5", "--pids-limit", "7")
    assert shared.cli("update", *words, id, check=True).stdout == f"{id}\n"
    assert limit(shared, id, "memory") == str(32 << 20)
    assert limit(shared, id, "cpu") == "50000"
    assert limit(shared, id, "pids") == "7"
    options = shared.inspect(id)["options"]
    assert (options["memory"], options["cpus"], options["pids_limit"]) == (32 << 20, 0.5, 7)


def test_raise_and_lift(shared: Engine, id: str) -> None:
    shared.cli("update", "-m", "256m", id, check=True)
    assert limit(shared, id, "memory") == str(256 << 20)
    shared.cli("update", "-m", "0", "--cpus", "0", "--pids-limit", "-1", id, check=True)
    assert limit(shared, id, "memory") in ("max", "9223372036854771712")
    assert limit(shared, id, "cpu") in ("max", "-1")
    assert limit(shared, id, "pids") == "max"


def test_it_counts_for_the_next_start(shared: Engine, id: str) -> None:
    shared.cli("kill", id, check=True)
    shared.cli("wait", id, check=True)
    shared.cli("update", "-m", "48m", id, check=True)
    shared.cli("start", id, check=True)
    assert limit(shared, id, "memory") == str(48 << 20)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no limit was given"),
        (("--cpus", "1000"), "1000 cannot be given"),
        (("-m", "1k"), "is too small"),
        (("--cpuset-cpus", "4095"), "this machine has no cpu 4095"),
    ],
)
def test_bad_limits_change_nothing(shared: Engine, id: str, words: tuple[str, ...], said: str) -> None:
    before = shared.inspect(id)
    refused = shared.cli("update", *words, id)
    assert refused.returncode != 0
    assert said in refused.stderr
    assert shared.inspect(id) == before
    assert limit(shared, id, "memory") == str(64 << 20)


def test_a_limit_that_the_kernel_refuses_takes_the_others_along(shared: Engine, image: str) -> None:
    """v1 refuses a limit below what is used and cannot be taken back; v2 would kill."""
    if cgroups.hierarchies()[0].version == 2:
        pytest.skip("cgroup v2 takes a limit below usage and kills")
    script = "dd if=/dev/zero of=/dev/shm/it bs=1M count=40 2>/dev/null; echo full; exec sleep 600"
    id = shared.cli("run", "-d", "-m", "64m", image, "sh", "-c", script, check=True).stdout.strip()
    log = shared.root / "containers" / id / "stdout"
    until(lambda: log.exists() and log.read_text() == "full\n", "40 MiB that cannot be swapped out")
    refused = shared.cli("update", "-m", "8m", "--pids-limit", "9", id)
    if refused.returncode == 0:
        pytest.skip("this machine has swap to put it into")
    assert "more than that is used now" in refused.stderr
    assert limit(shared, id, "memory") == str(64 << 20)
    assert limit(shared, id, "pids") == "max"
