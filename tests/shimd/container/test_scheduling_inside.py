"""Scheduler, I/O priority, CPUs, memory nodes and execution domain, as the kernel tells them of the container."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shimd.container import scheduling
from shimd.linux import identity
from shimd.wire.messages import ExecFailed
from tests.shimd.configs import NAMESPACES, config, process_of, shell
from tests.shimd.line import read_all
from tests.shimd.stage import Container, Stage, StartFailed

pytestmark = pytest.mark.root
NICE = bool(identity.bounding() >> identity.NUMBER_OF["CAP_SYS_NICE"] & 1)
BUDGETS = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us")
ALL_CPUS = Path("/sys/devices/system/cpu/online").read_text().strip()


def sched(pid: int) -> dict[str, str]:
    """/proc/PID/sched and its policy (proc_pid_stat(5), fields 18, 19 and 41)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {"nice": fields[16], "policy": fields[38], "priority": fields[37]}


def sleeping(stage: Stage, **process: Any) -> Container:
    return stage.start(config("sleep", "60", process=process))


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, {"policy": "0", "nice": "7"}),
        ({"policy": "SCHED_BATCH", "nice": 19}, {"policy": "3", "nice": "19"}),
        ({"policy": "SCHED_IDLE"}, {"policy": "5"}),
        ({"policy": "SCHED_FIFO", "priority": 3}, {"policy": "1", "priority": "3"}),
        ({"policy": "SCHED_RR", "priority": 99}, {"policy": "2", "priority": "99"}),
        (
            {"policy": "SCHED_DEADLINE", "runtime": 10**6, "deadline": 10**7, "period": 10**7},
            {"policy": "6"},
        ),
        ({"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, {"nice": "3"}),
    ],
)
def test_scheduler(stage: Stage, wish: dict[str, Any], found: dict[str, str]) -> None:
    if wish["policy"] in ("SCHED_FIFO", "SCHED_RR", "SCHED_DEADLINE") and not NICE:
        pytest.skip("this root may not raise priorities (no CAP_SYS_NICE)")
    try:
        container = sleeping(stage, scheduler=wish)
    except StartFailed as failed:
        if wish["policy"] == "SCHED_DEADLINE" and failed.trouble.errno in (1, 16):
            pytest.skip(f"no deadlines on this machine: {failed}")  # a cpuset, or the bandwidth is given away
        if "real-time budget" in str(failed) and BUDGETS.exists():
            pytest.skip(f"a new cgroup has no budget here: {failed}")
        raise
    assert found.items() <= sched(container.pid).items()
    out, _ = container.exec("e1", process_of("cat", "/proc/self/stat", scheduler={"policy": "SCHED_BATCH", "nice": 5}))
    fields = read_all(out).decode().rpartition(")")[2].split()
    assert (fields[38], fields[16]) == ("3", "5")


def test_a_policy_that_no_kernel_has(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="set scheduler to SCHED_ISO: invalid argument"):
        sleeping(stage, scheduler={"policy": "SCHED_ISO"})


def test_a_priority_that_is_not_granted(stage: Stage) -> None:
    """In a user namespace CAP_SYS_NICE counts for nothing outside."""
    maps = [{"containerID": 0, "hostID": 0, "size": 2000}]
    document = config(
        *("sleep", "60"),
        namespaces=[*NAMESPACES, "user"],
        process={"scheduler": {"policy": "SCHED_FIFO", "priority": 3}},
        linux={"uidMappings": maps, "gidMappings": maps},
    )
    with pytest.raises(StartFailed, match="set scheduler to SCHED_FIFO: it needs cap_sys_nice"):
        stage.start(document)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, "idle"),
        ({"class": "IOPRIO_CLASS_BE", "priority": 6}, "best-effort: prio 6"),
        ({"class": "IOPRIO_CLASS_RT", "priority": 2}, "realtime: prio 2"),
    ],
)
def test_io_priority(stage: Stage, wish: dict[str, Any], said: str) -> None:
    container = sleeping(stage, ioPriority=wish)
    done = subprocess.run(["ionice", "-p", str(container.pid)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU is no choice")
def test_the_cpus_of_an_exec(stage: Stage) -> None:
    """config.md, execCPUAffinity: `initial` on the way into the cgroup, `final` in it; init has all."""
    affinity = {"initial": "0", "final": "1"}
    document = config("sleep", "60", process={"execCPUAffinity": affinity})
    container = stage.start(document)
    assert os.sched_getaffinity(container.pid) == os.sched_getaffinity(0)
    cpus = ("grep", "Cpus_allowed_list", "/proc/self/status")
    assert container.run_inside(*cpus, execCPUAffinity=affinity).split()[1] == "1"
    assert container.run_inside(*cpus, execCPUAffinity={"final": "0"}).split()[1] == "0"
    assert container.run_inside(*cpus).split()[1] == ALL_CPUS
    assert container.run_inside(*cpus, execCPUAffinity={"initial": "1"}).split()[1] in ("1", ALL_CPUS)


def test_cpus_that_are_not_there(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    container.exec("e1", process_of("true", execCPUAffinity={"final": "1000-1001"}))
    failed = container.expect(ExecFailed)
    assert isinstance(failed, ExecFailed)
    assert str(failed.trouble) == "set CPU affinity to 1000-1001: invalid argument"


def test_execution_domain(stage: Stage) -> None:
    document = shell("uname -m; sleep 60", linux={"personality": {"domain": "LINUX32"}})
    container = stage.start(document)
    assert container.run_inside("uname", "-m") in ("i686\n", "armv8l\n")
    assert Path(f"/proc/{container.pid}/personality").read_text() == "00000008\n"
    assert stage.output(config("uname", "-m", linux={"personality": {"domain": "LINUX"}})) == f"{os.uname().machine}\n"


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_LOCAL", "nodes": ""}, "local"),
    ],
)
def test_memory_policy(stage: Stage, wish: dict[str, Any], found: str) -> None:
    try:
        container = stage.start(config("sleep", "60", linux={"memoryPolicy": wish}))
    except StartFailed as failed:
        said = str(failed)
        assert said.startswith(f"set memory policy to {wish['mode']}")
        assert said.endswith("this kernel has no memory policies (config_numa)")
        assert not os.path.exists("/proc/self/numa_maps")
        return
    policies = {line.split()[1] for line in Path(f"/proc/{container.pid}/numa_maps").read_text().splitlines()}
    assert policies == {found}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", set()), ("0", {0}), ("0-3,7", {0, 1, 2, 3, 7}), ("0-7:2/4", {0, 1, 4, 5}), (" 1 , 3-4 ", {1, 3, 4})],
)
def test_lists(text: str, numbers: set[int]) -> None:
    assert scheduling.members(text) == numbers
