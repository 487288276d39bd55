"""config.json to plan: which steps, in which order, and what is refused."""

from typing import Any

import pytest

from shimd.container.plan import Plan, compile_plan
from shimd.errors import RuntimeTrouble
from shimd.linux import processes
from shimd.linux.cgroups import Hierarchy
from shimd.spec.validate import load
from tests.shimd.configs import MOUNTS, NAMESPACES, config

V1 = [
    Hierarchy(1, "/cg/memory", ("memory",)),
    Hierarchy(1, "/cg/pids", ("pids",)),
    Hierarchy(1, "/cg/blkio", ("blkio",)),
]
V2 = [Hierarchy(2, "/sys/fs/cgroup", ("cpu", "memory", "pids"))]


def plan_of(document: dict[str, Any], trees: list[Hierarchy] = V1) -> Plan:
    return compile_plan(load(document), trees, stdin=False)


USUAL = """\
outside: create cgroup in /cg/memory
outside: create cgroup in /cg/pids
outside: set limit pids.max=17
outside: clone3 flags 0x6c020000
birth: enter cgroups
birth: make cgroup namespace
birth: set up loopback link
birth: set host name
rooting: set propagation of /
rooting: mount the root file system
rooting: mount proc on /proc
rooting: mount tmpfs on /dev
rooting: mount devpts on /dev/pts
rooting: mount tmpfs on /dev/shm
rooting: mount mqueue on /dev/mqueue
rooting: mount sysfs on /sys
rooting: mount cgroup on /sys/fs/cgroup
rooting: bind /srv/data on /data
rooting: create default devices in /dev
rooting: create device /dev/fuse
rooting: create directory /home/app
rooting: make read-only /proc/bus
rooting: make read-only /proc/fs
rooting: make read-only /proc/irq
rooting: make read-only /proc/sys
rooting: make read-only /proc/sysrq-trigger
rooting: mask /proc/acpi
rooting: mask /proc/kcore
rooting: mask /proc/keys
rooting: mask /proc/timer_list
rooting: mask /sys/firmware
rooting: make read-only the root file system
rooting: change to the root file system
process: join session keyring
process: set RLIMIT_NOFILE to 1024:2048
process: set no_new_privs
process: change to directory /home/app
process: become user 1000:1000
process: set parent death signal
process: run sh"""


def usual() -> dict[str, Any]:
    return config(
        *("sh", "-c", "true"),
        mounts=[*MOUNTS, {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]}],
        process={
            "cwd": "/home/app",
            "user": {"uid": 1000, "gid": 1000},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2048}],
        },
        linux={
            "resources": {"pids": {"limit": 17}},
            "devices": [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}],
        },
        root={"path": "rootfs", "readonly": True},
        hostname="box",
    )


def test_the_usual_plan() -> None:
    assert "\n".join(plan_of(usual()).describe()) == USUAL


def test_v2_is_entered_at_birth() -> None:
    lines = plan_of(usual(), V2).describe()
    assert "outside: create cgroup in /sys/fs/cgroup" in lines
    assert "birth: enter cgroups" not in lines


def test_who_stands_alone() -> None:
    plan = compile_plan(load(usual()), V1, stdin=False, standalone=True)
    assert plan.hierarchies == tuple(V1)  # blkio as well, where nothing is limited
    assert plan_of(usual()).hierarchies == tuple(V1[:2])


def test_the_rarer_steps_and_their_places() -> None:
    document = config(
        "sh",
        namespaces=["mount", "pid", "uts", "user", "time", {"type": "network", "path": "/run/netns/x"}, "ipc"],
        process={"oomScoreAdj": 100},
        linux={
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 10}],
            "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 20}],
            "sysctl": {"kernel.msgmax": "1"},
            "timeOffsets": {"monotonic": {"secs": 5}},
        },
        hostname="box",
        domainname="yard",
    )
    plan = plan_of(document)
    lines = plan.describe()
    assert lines[:2] == ["outside: open network namespace /run/netns/x", "outside: make time namespace"]
    assert [line for line in lines if line.startswith("birth")] == [
        "birth: enter cgroups",
        "birth: set oom_score_adj to 100",
        "birth: join namespaces",
        "birth: become root of the user namespace",
        "birth: set host name",
        "birth: set domain name yard",
        "birth: set sysctl kernel.msgmax=1",
    ]
    assert (plan.uid_map, plan.gid_map) == ("0 100000 10\n", "0 200000 20\n")
    assert plan.clone_flags & processes.CLONE_NEWUSER
    assert not plan.clone_flags & (processes.CLONE_NEWNET | processes.CLONE_NEWTIME)
    assert plan.child_kinds == processes.CLONE_NEWPID | processes.CLONE_NEWTIME
    assert plan.own_pids


def test_a_joined_pid_namespace_is_not_its_own() -> None:
    namespaces: list[Any] = ["mount", {"type": "pid", "path": "/proc/1/ns/pid"}]
    plan = plan_of(config("sh", namespaces=namespaces))
    assert not plan.own_pids
    assert plan.child_kinds == processes.CLONE_NEWPID


def test_a_plan_is_a_value() -> None:
    assert plan_of(usual()) == plan_of(usual())
    assert plan_of(usual()) != plan_of(config("sh"))


@pytest.mark.parametrize(
    ("place", "value", "path"),
    [
        ("process", {"terminal": True}, "$.process.terminal"),
        ("process", {"apparmorProfile": "x"}, "$.process.apparmorProfile"),
        ("process", {"selinuxLabel": "x"}, "$.process.selinuxLabel"),
        ("process", {"scheduler": {"policy": "SCHED_BATCH"}}, "$.process.scheduler"),
        ("process", {"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}, "$.process.ioPriority"),
        ("linux", {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, "$.linux.seccomp"),
        ("linux", {"intelRdt": {"closID": "x"}}, "$.linux.intelRdt"),
        ("linux", {"memoryPolicy": {"mode": "MPOL_LOCAL", "nodes": ""}}, "$.linux.memoryPolicy"),
        ("linux", {"netDevices": {"eth0": {}}}, "$.linux.netDevices"),
        ("linux", {"personality": {"domain": "LINUX32"}}, "$.linux.personality"),
        ("linux", {"mountLabel": "x"}, "$.linux.mountLabel"),
        ("hooks", {"poststart": [{"path": "/bin/true"}]}, "$.hooks"),
    ],
)
def test_what_is_not_built_is_refused_by_name(place: str, value: dict[str, Any], path: str) -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        plan_of({**config("sh"), place: {**config("sh").get(place, {}), **value}})
    assert str(caught.value) == f"plan {path}: not built yet (leave it out)"


@pytest.mark.parametrize(
    ("namespaces", "words"),
    [
        (["pid"], "without a new mount namespace"),
        ([{"type": "mount", "path": "/proc/1/ns/mnt"}], "without a new mount namespace"),
        (["mount", "pid", {"type": "user", "path": "/proc/1/ns/user"}], "under a joined user namespace"),
    ],
)
def test_combinations_that_are_not_built(namespaces: list[Any], words: str) -> None:
    with pytest.raises(RuntimeTrouble, match=words):
        plan_of(config("sh", namespaces=namespaces, mounts=[], linux={"maskedPaths": [], "readonlyPaths": []}))


@pytest.mark.parametrize("option", ["idmap", "ridmap", "tmpcopyup"])
def test_mounts_that_are_not_built(option: str) -> None:
    mount: dict[str, Any] = {"destination": "/x", "type": "tmpfs", "source": "t", "options": [option]}
    if option != "tmpcopyup":
        maps = [{"containerID": 0, "hostID": 100000, "size": 10}]
        mount |= {"uidMappings": maps, "gidMappings": maps}
    with pytest.raises(RuntimeTrouble, match="mount on /x"):
        plan_of(config("sh", mounts=[mount]))


@pytest.mark.parametrize("option", ["rro", "rnosuid", "size=1"])
def test_options_of_binds_that_would_be_dropped(option: str) -> None:
    mount = {"destination": "/x", "type": "bind", "source": "/srv", "options": ["rbind", option]}
    with pytest.raises(RuntimeTrouble, match=f"plan bind on /x: option {option} is not built yet"):
        plan_of(config("sh", mounts=[mount]))


def test_no_command() -> None:
    document = config("sh")
    del document["process"]
    with pytest.raises(RuntimeTrouble, match=r"\$\.process\.args: there is no command"):
        plan_of(document)


def test_namespaces_of_the_usual_config_are_all_new() -> None:
    plan = plan_of(config("sh"))
    assert set(NAMESPACES) == {"mount", "pid", "network", "ipc", "uts", "cgroup"}
    assert plan.kinds == (
        processes.CLONE_NEWNS
        | processes.CLONE_NEWNET
        | processes.CLONE_NEWIPC
        | processes.CLONE_NEWUTS
        | processes.CLONE_NEWCGROUP
    )
