"""config.json to plan: which steps, in which order, and what is refused."""

from typing import Any

import pytest

from shimd.container import mounts, sources, tmpfs
from shimd.container.making import Anchors
from shimd.container.namespaces import OpenNamespace
from shimd.container.plan import Plan, compile_plan
from shimd.container.root import MountRoot, PropagateRoot
from shimd.container.scripting import compile_script
from shimd.errors import RuntimeTrouble
from shimd.linux import mounts as kernel
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
process: chdir to /home/app
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
    assert lines[:3] == [
        "outside: prepare the root file system",
        "outside: open network namespace /run/netns/x",
        "outside: make time namespace",
    ]
    assert [line for line in lines if line.startswith("birth")] == [
        "birth: enter cgroups",
        "birth: set oom_score_adj to 100",
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


def test_hooks_stand_where_the_spec_wants_them() -> None:
    moments = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    plan = plan_of({**config("sh"), "hooks": {moment: [{"path": "/bin/true"}] for moment in moments}})
    places = {" ".join(step.describe()): place for place, step in enumerate(plan.rooting)}
    assert places["run the runtime's hooks"] + 1 == places["run createContainer hooks"]
    assert places["run createContainer hooks"] + 1 == next(
        place for place, step in enumerate(plan.rooting) if type(step).__name__ == "PivotRoot"
    )
    assert type(plan.process[-1]).__name__ == "HookedExec"
    assert compile_script(plan, Anchors("/root", "/lower", "/empty")) is None  # the reference has the words for them
    assert len(plan_of(config("sh")).rooting) == len(plan.rooting) - 2


def test_a_runtime_that_asks_is_asked() -> None:
    asking = compile_plan(load(config("sh")), [], stdin=False, asks=True)
    assert "rooting: run the runtime's hooks" in asking.describe()


def test_a_terminal_is_taken_once_there_are_devices_and_still_the_machines_root() -> None:
    document = config("sh", process={"terminal": True, "consoleSize": {"height": 24, "width": 80}})
    plan = plan_of(document)
    places = {type(step).__name__: place for place, step in enumerate(plan.rooting)}
    assert places["DefaultDevices"] + 1 == places["TakeConsole"] < places["PivotRoot"]
    assert plan.terminal
    assert not plan_of(config("sh")).terminal


BARE: dict[str, Any] = {"maskedPaths": [], "readonlyPaths": []}


def test_a_container_in_the_runtimes_mounts() -> None:
    plan = plan_of(config("sh", namespaces=["pid"], mounts=[MOUNTS[0]], linux=BARE))
    lines = plan.describe()
    assert lines[0] == "outside: bind on itself rootfs"
    assert [line for line in lines if line.startswith("rooting")] == [
        "rooting: open the root file system",
        "rooting: mount proc on /proc",
        "rooting: create default devices in /dev",
        "rooting: change to the root file system",
    ]
    assert plan.chroot


def test_a_container_in_mounts_that_it_joins() -> None:
    """Sysctls are written by way of the machine's /proc, so before."""
    namespaces: list[Any] = [{"type": "mount", "path": "/proc/1/ns/mnt"}, "ipc"]
    plan = plan_of(config("sh", namespaces=namespaces, mounts=[], linux={**BARE, "sysctl": {"kernel.msgmax": "1"}}))
    lines = plan.describe()
    assert lines.index("birth: set sysctl kernel.msgmax=1") < lines.index("rooting: join mount namespace")
    assert [line for line in lines if line.startswith("rooting")][-1] == "rooting: change to the root file system"
    assert plan.kinds & processes.CLONE_NEWNS
    assert not plan.clone_flags & processes.CLONE_NEWNS


@pytest.mark.parametrize(
    ("linux", "path"),
    [
        ({"rootfsPropagation": "shared"}, "rootfsPropagation: this"),
        (
            {
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            },
            "namespaces: a user namespace",
        ),
    ],
)
def test_what_needs_mounts_of_its_own(linux: dict[str, Any], path: str) -> None:
    namespaces = ["pid", "user"] if "uidMappings" in linux else ["pid"]
    with pytest.raises(RuntimeTrouble, match=f"{path} needs a mount namespace of the container's own"):
        plan_of(config("sh", namespaces=namespaces, mounts=[], linux={**BARE, **linux}))


def mount_of(kind: str, *options: str, source: str = "/srv", **more: Any) -> dict[str, Any]:
    return {"destination": "/x", "type": kind, "source": source, "options": list(options), **more}


def step_for(mount: dict[str, Any], trees: list[Hierarchy] = V1, **changes: Any) -> Any:
    """The one step of init for a mount."""
    plan = plan_of(config("sh", mounts=[mount], **changes), trees)
    return plan.rooting[2]


ID_MAPS = [{"containerID": 0, "hostID": 100000, "size": 10}]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (mount_of("bind", "rbind", "size=1"), "bind on /x: option size=1 is the file system's"),
        (mount_of("bind", "rbind", "tmpcopyup"), "bind on /x: tmpcopyup needs a tmpfs"),
        (mount_of("proc", "tmpcopyup"), "mount on /x: tmpcopyup needs a tmpfs"),
        (mount_of("tmpfs", "idmap", uidMappings=ID_MAPS, gidMappings=ID_MAPS), "mount on /x: only a bind can be id-m"),
        (mount_of("cgroup2"), "mount cgroup2 on /x: the container's cgroups are of version 1 on this machine"),
        (mount_of("cgroup", "nsdelegate"), "mount cgroup on /x: option nsdelegate is the whole machine's"),
        (mount_of("", "remount", "tmpcopyup"), "remount on /x: idmap, tmpcopyup and iversion are for new mounts"),
    ],
)
def test_mounts_that_cannot_be(mount: dict[str, Any], words: str) -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        plan_of(config("sh", mounts=[mount]))
    assert f"plan {words}" in str(caught.value)


def test_flags_of_the_superblock_are_the_sources_own() -> None:
    assert step_for(mount_of("bind", "bind", "sync")) == step_for(mount_of("bind", "bind"))


def test_which_step_mounts_what() -> None:
    assert isinstance(step_for(mount_of("bind", "rbind", "rro")), mounts.BindMount)
    assert isinstance(step_for(mount_of("bind", "rbind", "rslave")), sources.AttachTree)
    assert isinstance(step_for(mount_of("bind", "bind", uidMappings=ID_MAPS, gidMappings=ID_MAPS)), sources.AttachTree)
    assert isinstance(step_for(mount_of("tmpfs", "mode=755")), mounts.MountFilesystem)
    assert isinstance(step_for(mount_of("tmpfs")), tmpfs.MountTmpfs)
    assert isinstance(step_for(mount_of("overlay", f"lowerdir={'x' * 300}")), mounts.MountByOptions)
    assert isinstance(step_for(mount_of("tmpfs", "iversion", "mode=755")), mounts.MountByOptions)
    assert isinstance(step_for(mount_of("bind", "remount", "ro")), mounts.Remount)


def test_which_cgroups_are_seen() -> None:
    """Of v2 the whole hierarchy where no namespace hides it, as /proc/self/cgroup has it."""
    with_one, without = NAMESPACES, [kind for kind in NAMESPACES if kind != "cgroup"]
    for kind in ("cgroup", "cgroup2"):
        assert not step_for(mount_of(kind), V2, namespaces=with_one).whole
        assert step_for(mount_of(kind), V2, namespaces=without).whole
    assert not step_for(mount_of("cgroup"), V1, namespaces=without).whole


def test_a_bound_dev_is_left_as_it_is() -> None:
    dev = {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]}
    devices = [{"type": "c", "path": path, "major": 1, "minor": 3} for path in ("/dev/mine", "/srv/mine")]
    lines = plan_of(config("sh", mounts=[dev], linux={"devices": devices})).describe()
    assert "rooting: create device /srv/mine" in lines
    assert "rooting: leave /dev as it was bound" in lines
    assert not {"rooting: create default devices in /dev", "rooting: create device /dev/mine"} & set(lines)


def test_ptmx_is_the_default_one() -> None:
    """config-linux.md, "Default Devices": a bind or symlink of the container's own."""
    devices = [{"type": "c", "path": "/dev/ptmx", "major": 5, "minor": 2}]
    assert not [line for line in plan_of(config("sh", linux={"devices": devices})).describe() if "ptmx" in line]


def test_a_sysctl_or_name_in_a_joined_namespace_wants_a_foreign_one() -> None:
    namespaces: list[Any] = ["mount", *({"type": kind, "path": f"/run/{kind}"} for kind in ("network", "uts", "ipc"))]
    linux = {"sysctl": {"net.ipv4.ip_forward": "1"}}
    plan = plan_of(config("sh", namespaces=namespaces, linux=linux, hostname="box"))
    foreign = {step.kind: step.foreign for step in plan.outside if isinstance(step, OpenNamespace)}
    assert foreign == {"network": True, "uts": True, "ipc": False}
    assert "birth: set host name box" in plan.describe()


@pytest.mark.parametrize(
    ("word", "heard", "after"),
    [
        ("", kernel.MS_PRIVATE, None),
        ("private", kernel.MS_PRIVATE, None),
        ("slave", kernel.MS_SLAVE, None),
        ("rslave", kernel.MS_SLAVE, None),
        ("shared", kernel.MS_PRIVATE, PropagateRoot(kernel.MS_SHARED, False)),
        ("rshared", kernel.MS_PRIVATE, PropagateRoot(kernel.MS_SHARED, True)),
        ("unbindable", kernel.MS_PRIVATE, PropagateRoot(kernel.MS_UNBINDABLE, False)),
    ],
)
def test_propagation_of_the_root(word: str, heard: int, after: PropagateRoot | None) -> None:
    """Whatever is asked for, the machine's copied mounts are never left shared with it."""
    rooting = plan_of(config("sh", linux={"rootfsPropagation": word})).rooting
    assert rooting[0] == mounts.SetPropagation(heard)
    assert rooting[1] == MountRoot("rootfs", heard)
    assert (rooting[-1] if after else None) == after


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
