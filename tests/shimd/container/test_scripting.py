"""Which plans have a script, and that no operation is forgotten."""

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from shimd.container import (
    borrowed,
    cgroups,
    devices,
    encoders,
    identity,
    labels,
    mounts,
    namespaces,
    netdevices,
    plan,
    resctrl,
    root,
    scheduling,
    scripting,
    seccomp,
    sources,
    tmpfs,
)
from shimd.container.making import Anchors, Making
from shimd.container.phrases import LAYERS
from shimd.container.starting import Start
from shimd.linux import executables, script
from shimd.linux.cgroups import Hierarchy
from shimd.spec.validate import load
from tests.shimd.configs import CAPABILITIES, MOUNTS, NAMESPACES, config

pytestmark = pytest.mark.skipif(not script.usable(), reason="script.c is not built for this machine")

ROOMS: tuple[ModuleType, ...] = (
    borrowed, cgroups, devices, identity, labels, mounts, namespaces, netdevices, resctrl, root, scheduling, seccomp,
    sources, tmpfs,
)  # fmt: skip
RARE = "no default container has it; the reference does it"
ANCHORS = Anchors("/anchors/root", "/anchors/lower", "/anchors/empty", private=True)
V1 = [
    Hierarchy(1, f"/sys/fs/cgroup/{name}", (name,))
    for name in ("cpu", "cpuacct", "memory", "devices", "freezer", "pids", "cpuset")
]
V2 = [Hierarchy(2, "/sys/fs/cgroup", ("cpu", "memory", "pids"))]

# Operations that no script does, each with its reason: a plan with one of them is the reference executor's.
WITHOUT: dict[type, str] = {
    cgroups.MissingController: "it only refuses, and the reference has the words",
    devices.HoldNode: RARE,
    devices.MakeDevice: "nobody starts hundreds of containers with devices of their own yet",
    identity.SetOomScore: "the kernel sets the score of all processes that share memory, the shim's as well",
    namespaces.OpenNamespace: "joined namespaces: the child would be born with fds that the script does not know",
    namespaces.NewTimeNamespace: "clone3 refuses a time namespace to a child that shares memory",
    namespaces.JoinNamespaces: "joined namespaces",
    borrowed.BindRoot: RARE,
    borrowed.ChangeRoot: RARE,
    borrowed.OpenRoot: RARE,
    cgroups.HandOverCgroup: RARE,
    cgroups.LimitDevices: RARE,
    cgroups.TakeCgroup: RARE,
    cgroups.WriteFirst: RARE,
    cgroups.WriteKept: RARE,
    labels.CheckMountLabel: RARE,
    labels.SetAppArmorProfile: RARE,
    labels.SetSelinuxLabel: RARE,
    mounts.CoverRoot: RARE,
    mounts.MountByOptions: RARE,
    mounts.Remount: RARE,
    namespaces.JoinMounts: RARE,
    namespaces.RenameJoined: RARE,
    netdevices.OfferDevices: RARE,
    netdevices.TakeDevices: RARE,
    resctrl.EnterGroup: RARE,
    resctrl.MakeGroup: RARE,
    root.DropKernelViews: RARE,
    root.MoveRoot: RARE,
    root.PropagateRoot: RARE,
    scheduling.SetAffinity: RARE,
    scheduling.SetIoPriority: RARE,
    scheduling.SetMemoryPolicy: RARE,
    scheduling.SetPersonality: RARE,
    scheduling.SetScheduler: RARE,
    seccomp.IntroduceListener: RARE,
    sources.AttachRoot: RARE,
    sources.AttachTree: RARE,
    sources.HoldRoot: RARE,
    sources.HoldTree: RARE,
    tmpfs.MountTmpfs: RARE,
    tmpfs.SealTmpfs: RARE,
    namespaces.BecomeRoot: "user namespaces: somebody has to write the id maps in between",
}


@pytest.fixture(autouse=True)
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a zygote, whose interpreter is on a read-only mount."""
    monkeypatch.setattr(executables, "OWN", None)


def compiled(document: dict[str, Any], hierarchies: list[Hierarchy] = V1, stdin: bool = False) -> plan.Plan:
    return plan.compile_plan(load(document), hierarchies, stdin)


def scripted(
    document: dict[str, Any], hierarchies: list[Hierarchy] = V1, stdin: bool = False
) -> scripting.Scripted | None:
    return scripting.compile_script(compiled(document, hierarchies, stdin), ANCHORS)


def operations() -> Iterator[type]:
    for room in ROOMS:
        for _, found in inspect.getmembers(room, inspect.isclass):
            if found.__module__ == room.__name__ and hasattr(found, "describe") and hasattr(found, "execute"):
                yield found


def test_no_operation_is_forgotten() -> None:
    """Who adds an operation says here, or in the tables, what scripts do about it."""
    known = {*encoders.ENCODERS, *encoders.OUTSIDE, *WITHOUT}
    assert {found.__name__ for found in operations()} == {found.__name__ for found in known}


def test_none_is_in_two_lists() -> None:
    tables = [set(encoders.ENCODERS), set(encoders.OUTSIDE), set(WITHOUT)]
    assert sum(map(len, tables)) == len(set.union(*tables))


def bind(**changes: Any) -> dict[str, Any]:
    return {"destination": "/data", "type": "bind", "source": "/srv", "options": ["rbind", "ro"], **changes}


MIB = 1 << 20
USER = {"uid": 1000, "gid": 1000, "additionalGids": [5, 50], "umask": 0o77}
WITH: dict[str, dict[str, Any]] = {
    "the usual": {},
    "binds": {"mounts": [*MOUNTS, bind(), bind(destination="/etc/hosts", source="/etc/hosts", options=["bind"])]},
    "a user": {"process": {"user": USER}},
    "no capabilities": {"process": {"capabilities": None}},
    "limits": {
        "linux": {
            "resources": {
                "memory": {"limit": 64 * MIB},
                "cpu": {"quota": 50000, "period": 100000, "shares": 512},
                "pids": {"limit": 20},
            }
        }
    },
    "read-only": {"root": {"path": "rootfs", "readonly": True}},
    "rlimits": {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]}},
    "sysctls": {"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}},
    "no new privileges": {"process": {"noNewPrivileges": True}},
    "names": {"hostname": "box", "domainname": "yard"},
    "a directory": {"process": {"cwd": "/somewhere/deep"}},
    "few namespaces": {"namespaces": ["mount", "pid", "cgroup"]},
}


@pytest.mark.parametrize("hierarchies", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("stdin", [False, True])
@pytest.mark.parametrize("name", WITH)
def test_plans_with_a_script(name: str, stdin: bool, hierarchies: list[Hierarchy]) -> None:
    changes = dict(WITH[name])
    made = scripted(config("sh", "-c", "true", **changes), hierarchies, stdin)
    assert made is not None
    assert Start("key", made).address


WITHOUT_A_SCRIPT: dict[str, dict[str, Any]] = {
    "user namespace": {
        "namespaces": [*NAMESPACES, "user"],
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
            "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 1000}],
        },
    },
    "time namespace": {"namespaces": [*NAMESPACES, "time"]},
    "joined namespace": {"namespaces": ["mount", "pid", {"type": "network", "path": "/proc/1/ns/net"}]},
    "the machine's processes": {"namespaces": ["mount"]},
    "OOM score": {"process": {"oomScoreAdj": 100}},
    "tiny memory": {"linux": {"resources": {"memory": {"limit": 8 * MIB}}}},
    "a cpuset": {"linux": {"resources": {"cpu": {"cpus": "0"}}}},
    "a device": {"linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}},
    "an empty command": {"process": {"args": [""]}},
}


@pytest.mark.parametrize("name", WITHOUT_A_SCRIPT)
def test_plans_for_the_reference(name: str) -> None:
    assert scripted(config("true", **WITHOUT_A_SCRIPT[name])) is None


def test_memory_limits_at_the_border() -> None:
    for limit, has in ((encoders.SMALLEST_MEMORY - 1, False), (encoders.SMALLEST_MEMORY, True)):
        found = scripted(config("true", linux={"resources": {"memory": {"limit": limit}}}))
        assert (found is not None) == has, limit


class Unknown:
    def describe(self) -> tuple[str, str]:
        return "do", "something new"

    def execute(self, making: Making) -> None:
        raise AssertionError

    def undo(self, making: Making) -> None:
        raise AssertionError


@pytest.mark.parametrize("stage", ["outside", "birth", "rooting", "process"])
def test_an_unknown_operation_is_the_references(stage: str) -> None:
    usual = compiled(config("true"))
    changed = usual._replace(**{stage: (*getattr(usual, stage), Unknown())})
    assert scripting.compile_script(usual, ANCHORS) is not None
    assert scripting.compile_script(changed, ANCHORS) is None


def test_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCRT_SCRIPTS", "off")
    assert scripted(config("true")) is None


def test_cells_and_places_fit_their_fields() -> None:
    """Cells, labels and steps are 16 bits wide (struct instruction); many binds and variables stay below."""
    many = [bind(destination=f"/data/{number}", source=f"/srv/{number}") for number in range(100)]
    env = [f"N{number}={number}" for number in range(1000)]
    made = scripted(config("true", mounts=[*MOUNTS, *many], process={"env": env, "capabilities": None}))
    assert made is not None
    assert len(made.program.cells) < 1 << 16
    assert len(made.binds) == 100
    assert made.environment.keys() == {f"N{number}" for number in range(1000)}


def test_a_plan_that_is_too_large_has_no_script() -> None:
    huge = config("true", process={"env": [f"N{number}={number}" for number in range(40_000)]})
    assert scripted(huge) is None


def test_own_cells_lie_from_one_on() -> None:
    """start.c fills them in this order without asking for numbers."""
    compiler = scripting.Compiler(compiled(config("true", mounts=[*MOUNTS, bind()])), ANCHORS)
    flat: list[int] = []

    def walk(value: Any) -> None:
        if isinstance(value, script.Cell):
            flat.append(value.number)
        else:
            for part in value:
                walk(part)

    walk(compiler.own)
    assert flat == list(range(1, len(flat) + 1))
    assert len(compiler.own.layers) == LAYERS


def test_the_capability_list_is_the_configs() -> None:
    """One prctl for each capability that is dropped, none for those that stay."""
    few = CAPABILITIES[:2]
    sets = dict.fromkeys(("bounding", "effective", "permitted"), few)
    step = next(
        step
        for step in compiled(config("true", process={"capabilities": sets})).process
        if isinstance(step, identity.Become)
    )
    assert step.sets is not None
    assert step.sets[0].bit_count() == len(few)
