"""Docker's limits on containers that run, read from outside; parents of one's own; kill --all."""

import os
import signal
from pathlib import Path

import pytest

from shimd.container.limits import weight_of_shares
from shimd.linux import cgroups
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root
TREES = cgroups.hierarchies()
V2 = TREES[0].version == 2
PARENT = f"/asyncrt-own-{os.getpid()}"


def directory(engine: Engine, id: str, controller: str, parent: str = "") -> str:
    """Of a container's cgroup; "" where this machine has no such controller."""
    above = parent or str(engine.json("info")["cgroup_parent"])
    tree = next((tree for tree in TREES if controller in tree.controllers), None)
    return f"{tree.mount}{above}/{id}" if tree else ""


def started(engine: Engine, *words: str) -> str:
    return engine.cli("run", "-d", *words, check=True).stdout.strip()


def disk() -> str:
    """A block device with limits of its own: a whole one."""
    for name in sorted(os.listdir("/sys/block")):
        if Path(f"/dev/{name}").is_block_device() and not name.startswith(("ram", "zram")):
            return f"/dev/{name}"
    pytest.skip("this machine has no block device")


@pytest.mark.parametrize(
    ("words", "v1", "v2"),
    [
        (("--memory-reservation", "32m"), ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
        (("--memory-swappiness", "7"), ("memory.swappiness", "7"), None),
        (("--oom-kill-disable",), ("memory.oom_control", "oom_kill_disable 1"), None),
        (("-c", "512"), ("cpu.shares", "512"), ("cpu.weight", "")),
        (("--cpu-period", "50000", "--cpu-quota", "10000"), ("cpu.cfs_quota_us", "10000"), ("cpu.max", "10000 50000")),
        (("--cpus", "0.25"), ("cpu.shares", "256"), ("cpu.weight", "")),
        (("--cpus", "1"), ("cpu.shares", "1024"), ("cpu.weight", "100")),
        (("--cpus", "0.25", "-c", "2048"), ("cpu.shares", "2048"), ("cpu.weight", "")),
        (("--cpuset-mems", "0"), ("cpuset.mems", "0"), ("cpuset.mems", "0")),
        (("--cgroup-conf", "memory.high=50000000"), None, ("memory.high", "49999872")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and str(value[0]).startswith("-") else "",
)
def test_each_is_what_was_asked_for(
    shared: Engine, image: str, words: tuple[str, ...], v1: tuple[str, str] | None, v2: tuple[str, str] | None
) -> None:
    wanted = v2 if V2 else v1
    command = ("run", "-d", "-m", "64m", *words, image, "sleep", "600")
    if wanted is None:
        refused = shared.cli(*command)
        assert refused.returncode == 125
        assert f"cgroup v{TREES[0].version}" in refused.stderr
        return
    id = shared.cli(*command, check=True).stdout.strip()
    file, value = wanted
    text = cgroups.read(directory(shared, id, file.partition(".")[0]), file)
    assert text.startswith(value), text
    if file == "cpu.weight" and v1:
        assert text.strip() == weight_of_shares(int(v1[1]))


def test_rates_of_a_device(shared: Engine, image: str) -> None:
    device = disk()
    number = Path(device).stat().st_rdev
    name = f"{os.major(number)}:{os.minor(number)}"
    words = ("--device-read-bps", f"{device}:1mb", "--device-write-iops", f"{device}:100")
    id = started(shared, *words, image, "sleep", "600")
    if V2:
        line = cgroups.read(directory(shared, id, "io"), "io.max")
        assert line.split()[0] == name
        assert {"rbps=1048576", "wiops=100"} <= set(line.split())
    else:
        place = directory(shared, id, "blkio")
        assert cgroups.read(place, "blkio.throttle.read_bps_device") == f"{name} 1048576\n"
        assert cgroups.read(place, "blkio.throttle.write_iops_device") == f"{name} 100\n"
    shared.cli("update", "--device-read-bps", f"{device}:2mb", id, check=True)
    file = "io.max" if V2 else "blkio.throttle.read_bps_device"
    assert "2097152" in cgroups.read(directory(shared, id, "io" if V2 else "blkio"), file)


def test_the_score_of_its_process(shared: Engine, image: str) -> None:
    id = started(shared, "--oom-score-adj", "500", image, "sleep", "600")
    assert Path(f"/proc/{shared.inspect(id)['pid']}/oom_score_adj").read_text() == "500\n"
    assert "from -1000 to 1000" in shared.cli("run", "--oom-score-adj", "1001", image, "true").stderr


def test_update_takes_the_rarer_ones_too(shared: Engine, image: str) -> None:
    id = started(shared, "-m", "64m", "--cpus", "0.5", image, "sleep", "600")
    shared.cli("update", "-c", "256", "--cpu-quota", "20000", "--memory-reservation", "16m", id, check=True)
    quota = cgroups.read(directory(shared, id, "cpu"), "cpu.max" if V2 else "cpu.cfs_quota_us").split()[0]
    assert quota == "20000"
    options = shared.inspect(id)["options"]
    assert options["cpus"] == 0.0
    assert options["limits"]["cpu_shares"] == 256
    assert options["limits"]["memory_reservation"] == 16 << 20
    shared.cli("update", "--cpus", "0.25", id, check=True)
    assert "cpu_quota" not in shared.inspect(id)["options"]["limits"]
    refused = shared.cli("update", "--memory-reservation", "65m", id)
    assert "at most the 67108864 of --memory" in refused.stderr
    assert shared.inspect(id)["options"]["limits"]["memory_reservation"] == 16 << 20


def test_update_brings_the_weight_along(shared: Engine, image: str) -> None:
    id = started(shared, "--cpus", "0.25", image, "sleep", "600")
    for cpus, shares in (("0.5", 512), ("1", 1024), ("0.125", 128), ("0", 1024)):
        shared.cli("update", "--cpus", cpus, id, check=True)
        text = cgroups.read(directory(shared, id, "cpu"), "cpu.weight" if V2 else "cpu.shares")
        assert text.strip() == (weight_of_shares(shares) if V2 else str(shares))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device-read-bps", "/dev/null"), '"/dev/null" has another shape'),
        (("--device-read-bps", "/dev/null:1mb"), "/dev/null is no block device"),
        (("--device-read-iops", "/dev/null:many"), '"many" is no rate'),
        (("--memory-swap", "lots"), '"lots" is no size'),
        (("--cpu-shares", "lots"), '"lots" is no number'),
        (("--blkio-weight", "5"), "from 10 to 1000"),
        (("--cgroup-parent", "/"), '"/" names no cgroup'),
        (("--cgroup-parent", "/a/../b"), "is no path of a cgroup"),
        (("--cgroup-conf", "nonsense"), "is no FILE=VALUE"),
        (("--annotation", "nonsense"), "write it as NAME=VALUE"),
    ],
)
def test_bad_words(shared: Engine, image: str, words: tuple[str, ...], said: str) -> None:
    refused = shared.cli("run", *words, image, "true")
    assert refused.returncode == 125
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_parent_of_its_own(engine: Engine, image: str) -> None:
    """Also over a restart, with device rules, and left when the container goes."""
    try:
        command = ("-m", "16m", "--cgroup-parent", PARENT, image, "sh", "-c", "tail /dev/zero; exec sleep 600")
        id = started(engine, *command)
        place = directory(engine, id, "memory", PARENT)
        assert engine.inspect(id)["pid"] in cgroups.processes(place)
        node = "mknod /tmp/x b 254 0 && head -c 1 /tmp/x"
        assert "ermission denied" in (told := engine.cli("exec", id, "sh", "-c", node).stderr) or "permitted" in told
        os.kill(engine.supervisor_pid(), signal.SIGKILL)
        engine.cli("pause", id, check=True)
        engine.cli("unpause", id, check=True)
        engine.cli("kill", id, check=True)
        assert engine.cli("wait", id, check=True).stdout == "137\n"
        ended = engine.inspect(id)["exit"]
        assert ended["oom_cgroup"] == f"{PARENT}/{id}"
        assert not os.path.exists(place)
        assert os.path.isdir(os.path.dirname(place))
        dead = started(engine, "--cgroup-parent", PARENT, image, "sleep", "600")
        os.kill(engine.inspect(dead)["shim_pid"], signal.SIGKILL)
        engine.cli("wait", dead, check=True)
        until(lambda: not os.path.exists(directory(engine, dead, "memory", PARENT)), "its cgroups are removed")
    finally:
        for tree in TREES:
            cgroups.remove(tree.mount + PARENT)


def test_kill_all(shared: Engine, image: str) -> None:
    """SIGTERM to its first process would be ignored; all of them hear it, and what has no handler ends."""
    script = "sleep 601 & sleep 602 & wait; wait; echo both; exec sleep 603"
    id = started(shared, image, "sh", "-c", script)
    until(lambda: "sleep 602" in shared.cli("top", id, check=True).stdout, "both run")
    shared.cli("kill", "-s", "TERM", "--all", id, check=True)
    log = shared.root / "containers" / id / "stdout"
    until(lambda: log.exists() and log.read_text() == "both\n", "both ended")
    shared.cli("kill", "--all", id, check=True)
    assert shared.cli("wait", id, check=True).stdout == "137\n"
    refused = shared.cli("kill", "--all", id)
    assert "it is not running" in refused.stderr
