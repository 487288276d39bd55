"""The steps that cgroups are made of: which hierarchies, in which order, with which device rules; at which path."""

import itertools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from shimd.container.cgroups import (
    CreateCgroup,
    HandOverCgroup,
    LimitDevices,
    MissingController,
    TakeCgroup,
    WriteCgroup,
    WriteFirst,
    WriteKept,
    compile_cgroups,
    owner_of,
    place,
)
from shimd.errors import RuntimeTrouble
from shimd.linux import device_rules
from shimd.linux.cgroups import Hierarchy
from shimd.spec.errors import SpecError
from shimd.spec.resources import UNSET_SWAPPINESS, Cpu, DeviceRule, Memory, Pids, Resources
from shimd.spec.validate import load, load_resources
from tests.shimd.configs import NAMESPACES, config
from tests.shimd.resources import EVERYTHING, MIB, V1, V2, read

NUMBER = st.sampled_from([-1, 0, 1, 10, 100, 1 << 20, 1 << 40])
COUNT = st.sampled_from([0, 1, 10, 100, 1000])
FLAG = st.booleans()
RATES = st.lists(st.fixed_dictionaries({"major": COUNT, "minor": COUNT, "rate": COUNT}), max_size=2)
WEIGHTS = st.fixed_dictionaries({"major": COUNT, "minor": COUNT, "weight": COUNT}, optional={"leafWeight": COUNT})
DEVICES = st.fixed_dictionaries(
    {"allow": FLAG},
    optional={
        "type": st.sampled_from(["a", "b", "c", "u"]),
        "major": NUMBER,
        "minor": NUMBER,
        "access": st.sampled_from(["r", "rw", "m", "rwm", ""]),
    },
)
THROTTLES = [f"throttle{way}{unit}Device" for way in ("Read", "Write") for unit in ("Bps", "IOPS")]
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "memory": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), NUMBER),
                **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), FLAG),
                "swappiness": st.sampled_from([0, 100, UNSET_SWAPPINESS]),
            },
        ),
        "cpu": st.fixed_dictionaries(
            {},
            optional={
                **dict.fromkeys(("shares", "period", "burst", "realtimePeriod"), COUNT),
                **dict.fromkeys(("quota", "realtimeRuntime"), NUMBER),
                "cpus": st.sampled_from(["", "0", "0-3,7"]),
                "idle": st.sampled_from([0, 1]),
            },
        ),
        "pids": st.fixed_dictionaries({"limit": NUMBER}),
        "blockIO": st.fixed_dictionaries(
            {},
            optional={
                "weight": COUNT,
                "leafWeight": COUNT,
                "weightDevice": st.lists(WEIGHTS, max_size=2),
                **dict.fromkeys(THROTTLES, RATES),
            },
        ),
        "network": st.fixed_dictionaries({}, optional={"classID": COUNT}),
        "rdma": st.dictionaries(st.sampled_from(["a", "b"]), st.fixed_dictionaries({"hcaHandles": COUNT})),
        "unified": st.dictionaries(
            st.sampled_from(["memory.high", "io.max", "x.y"]), st.sampled_from(["", "1", "a\nb"])
        ),
        "devices": st.lists(DEVICES, max_size=4),
    },
)


@hypothesis.settings(max_examples=300, deadline=None, database=None)
@hypothesis.given(DOCUMENTS)
def test_whatever_is_asked_for_becomes_steps_or_is_refused_with_its_path(document: dict[str, Any]) -> None:
    try:
        resources = load_resources(document)
    except SpecError:
        return  # tests/shimd/spec is about these
    for trees, standalone in itertools.product((V1, V2, []), (False, True)):
        refused, steps = "$.linux.resources.", []
        try:
            steps = compile_cgroups(resources, trees, standalone)
        except RuntimeTrouble as error:
            refused = error.trouble.subject
        assert refused.startswith("$.linux.resources.")
        assert all(all(step.describe()) for step in steps)


def test_only_hierarchies_that_are_needed() -> None:
    def entered(resources: Resources) -> list[str]:
        return [step.hierarchy.mount for step in compile_cgroups(resources, V1) if isinstance(step, CreateCgroup)]

    base = ["/cg/cpu,cpuacct", "/cg/memory", "/cg/devices", "/cg/freezer", "/cg/pids"]
    assert entered(Resources()) == base
    assert entered(Resources(cpu=Cpu(cpus="0"))) == ["/cg/cpu,cpuacct", "/cg/cpuset", *base[1:]]
    assert entered(read({"network": {"classID": 1}}))[-1] == "/cg/net_cls"


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_default_start_writes_nothing(trees: list[Hierarchy]) -> None:
    """What a start costs: a cgroup in each hierarchy of BASE, no limit, no device rule (decision 0008)."""
    assert len(compile_cgroups(Resources(), trees)) == (5 if trees is V1 else 1)
    assert all(isinstance(step, CreateCgroup) for step in compile_cgroups(Resources(), trees))


@pytest.mark.parametrize("trees", [V1, V2])
@pytest.mark.parametrize("standalone", [False, True])
def test_a_cgroup_is_made_before_its_limits(trees: list[Hierarchy], standalone: bool) -> None:
    steps = compile_cgroups(read(EVERYTHING), trees, standalone)
    made = [step.hierarchy.mount for step in steps if isinstance(step, CreateCgroup | TakeCgroup)]
    assert all(isinstance(step, CreateCgroup | TakeCgroup) for step in steps[: len(made)])
    written = {step.mount for step in steps if isinstance(step, WriteCgroup | WriteFirst | LimitDevices)}
    assert written <= set(made)
    assert not any(isinstance(step, MissingController) for step in steps)


def test_the_three_ways_to_write() -> None:
    def kinds(resources: dict[str, Any], trees: list[Hierarchy]) -> list[type]:
        return [type(step) for step in compile_cgroups(read(resources), trees) if not isinstance(step, CreateCgroup)]

    assert kinds({"memory": {"limit": MIB}}, V1) == [WriteCgroup]
    assert kinds({"memory": {"kernel": MIB}}, V1) == [WriteKept]
    assert kinds({"memory": {"swap": -1}}, V1) == [WriteFirst]
    assert kinds({"blockIO": {"weight": 10}}, V2) == [WriteFirst]


@pytest.mark.parametrize("trees", [[], V1[:1], [Hierarchy(2, "/sys/fs/cgroup", ("cpu",))]])
def test_a_limit_that_this_machine_cannot_keep(trees: list[Hierarchy]) -> None:
    steps = compile_cgroups(Resources(pids=Pids(17)), trees)
    assert steps[-1] == MissingController("pids.limit", "pids")
    assert steps[-1].describe() == ("set limit", "pids.limit (this machine mounts no pids controller)")
    # no limit is what there is
    assert compile_cgroups(Resources(memory=Memory(swap=-1)), V1[:1]) == [CreateCgroup(V1[0])]


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_unified_key_of_an_unknown_controller(trees: list[Hierarchy]) -> None:
    if trees is V2:
        steps = compile_cgroups(read({"unified": {"misc.max": "x 1", "cgroup.max.depth": "1"}}), V2)
        assert steps[1:] == [
            MissingController("unified.misc.max", "misc"),
            WriteCgroup("/sys/fs/cgroup", "cgroup.max.depth", "1"),
        ]


DENY = DeviceRule(False)
FUSE = DeviceRule(True, "c", 10, 229, "rw")


def test_device_rules_of_v1() -> None:
    steps = compile_cgroups(Resources(devices=(DENY, FUSE)), V1)
    found = [(step.file, step.value) for step in steps if isinstance(step, WriteCgroup)]
    assert found[0] == ("devices.deny", "a")
    assert ("devices.allow", "c 10:229 rw") in found
    assert found[1:] == [("devices.allow", str(rule)) for rule in (*_rules(FUSE), *device_rules.DEFAULT)]


def _rules(*rules: DeviceRule) -> list[device_rules.Rule]:
    return [device_rules.Rule(rule.allow, rule.type, rule.major or -1, rule.minor or -1, rule.access) for rule in rules]


def test_a_letter_more_than_rwm_is_passed_over() -> None:
    rule = FUSE._replace(access="awr")
    assert compile_cgroups(Resources(devices=(DENY, rule)), V1) == compile_cgroups(Resources(devices=(DENY, FUSE)), V1)


def test_device_rules_of_v2() -> None:
    [_, step] = compile_cgroups(Resources(devices=(DENY, FUSE)), V2)
    rules = [device_rules.Rule(False), *_rules(FUSE), *device_rules.DEFAULT]
    assert step == LimitDevices("/sys/fs/cgroup", device_rules.program(rules), len(rules))


@pytest.mark.parametrize("trees", [V1, V2])
def test_a_list_that_allows_everything_keeps_what_it_denies(trees: list[Hierarchy]) -> None:
    rules = (DeviceRule(True), DeviceRule(False, "c", 1, 5))
    last = compile_cgroups(Resources(devices=rules), trees)[-1]
    if isinstance(last, WriteCgroup):
        assert (last.file, last.value) == ("devices.deny", "c 1:5 rwm")
    else:
        assert isinstance(last, LimitDevices)
        assert last.rules == 2


def test_a_list_that_v1_cannot_keep() -> None:
    rules = (DENY, DeviceRule(True, "c", 10), DeviceRule(False, "c", 10, 229))
    with pytest.raises(RuntimeTrouble, match=r'plan \$\.linux\.resources\.devices: cgroup v1 cannot take "c 10:229'):
        compile_cgroups(Resources(devices=rules), V1)
    assert compile_cgroups(Resources(devices=rules), V2)


def test_who_stands_alone_enters_all_and_has_device_rules() -> None:
    steps = compile_cgroups(Resources(), V1, standalone=True)
    assert [step.hierarchy for step in steps if isinstance(step, TakeCgroup)] == V1
    assert WriteCgroup("/cg/devices", "devices.deny", "a") in steps
    assert isinstance(compile_cgroups(Resources(), V2, standalone=True)[-1], LimitDevices)


@pytest.mark.parametrize(
    ("path", "cgroup"),
    [
        ("", "/box1"),
        ("/", "/box1"),
        ("/a/b", "/a/b"),
        ("a/b", "/a/b"),
        ("//a/./b/", "/a/b"),
        ("/a:b:c", "/a:b:c"),
        ("a:b", "/a:b"),
    ],
)
def test_cgroups_path(path: str, cgroup: str) -> None:
    assert place(path, "box1") == cgroup


def test_systemds_notation_is_refused() -> None:
    with pytest.raises(RuntimeTrouble) as caught:
        place("system.slice:runc:box", "box")
    assert str(caught.value) == (
        'plan $.linux.cgroupsPath: "system.slice:runc:box" names a unit of systemd, and there is no systemd driver '
        "(give a path such as /parent/name, or tell the engine to use the cgroupfs driver)"
    )


WRITABLE = [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid"]}]
MAPS = {key: [{"containerID": 0, "hostID": 100000, "size": 1000}] for key in ("uidMappings", "gidMappings")}
WITH_USER = (*NAMESPACES, "user")


@pytest.mark.parametrize(
    ("document", "owner"),
    [
        (config("sh"), -1),  # mounted read-only
        (config("sh", mounts=WRITABLE), -1),  # root's it is
        (config("sh", mounts=WRITABLE, process={"user": {"uid": 7, "gid": 8}}), 7),
        (config("sh", mounts=WRITABLE, namespaces=WITH_USER, linux=MAPS), 100000),
        (
            config("sh", mounts=WRITABLE, namespaces=WITH_USER, linux=MAPS, process={"user": {"uid": 7, "gid": 8}}),
            100007,
        ),
        (config("sh", mounts=WRITABLE, namespaces=("mount", "pid", "user"), linux=MAPS), -1),  # no cgroup namespace
    ],
)
def test_whose_the_cgroup_is(document: dict[str, Any], owner: int) -> None:
    """config-linux.md, "Cgroup ownership"."""
    assert owner_of(load(document)) == owner
    given = [HandOverCgroup("/sys/fs/cgroup", owner)] if owner >= 0 else []
    assert compile_cgroups(Resources(), V2, owner=owner)[1:] == given
    assert all(isinstance(step, CreateCgroup) for step in compile_cgroups(Resources(), V1, owner=owner))
