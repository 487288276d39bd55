"""Device rules as a container meets them: what it may make and open.

240:7 is for local use, and nobody drives it: who may open it is told ENXIO, who may not EPERM.
"""

from typing import Any

import pytest

from tests.shimd.configs import shell
from tests.shimd.stage import Stage, TemplateFailed

pytestmark = pytest.mark.root

DENY = {"allow": False, "access": "rwm"}
LOCAL = {"type": "c", "major": 240, "minor": 7}
DENIED = "head: /tmp/k: Operation not permitted"
OPENED = "head: /tmp/k: No such device or address"
TRY = "mknod /tmp/k c 240 7; head -c 0 /tmp/k 2>&1"
SCRIPT = """
try() { "$@" 2>&1 && echo yes || true; }
try mknod /tmp/k c 240 7
try head -c 0 /tmp/k
try mknod /tmp/k2 b 254 0  # a disk, of many a machine
try head -c 1 /tmp/k2
try head -c 0 /dev/zero
try sh -c ': > /dev/null'
try mknod /tmp/full c 1 7
try head -c 1 /tmp/full | wc -c
"""


def said(stage: Stage, rules: list[dict[str, Any]], script: str = SCRIPT) -> list[str]:
    box = stage.run(shell(script, linux={"resources": {"devices": rules}}))
    return box.log("stdout").decode().splitlines()


@pytest.mark.busybox
def test_a_denied_device_cannot_be_opened(stage: Stage) -> None:
    assert said(stage, [DENY]) == [
        "yes",  # any node may be made
        DENIED,
        "yes",
        "head: /tmp/k2: Operation not permitted",
        "yes",
        "yes",
        "yes",
        "5",  # "\0yes\n": one byte was read
    ]


@pytest.mark.busybox
def test_an_allowed_device_is_opened_as_it_was_allowed(stage: Stage) -> None:
    script = f"{TRY}; (: > /tmp/k) 2>&1"
    wish = {**LOCAL, "allow": True, "access": "r"}
    assert said(stage, [DENY, wish], script) == [OPENED, "sh: can't create /tmp/k: Operation not permitted"]


@pytest.mark.busybox
def test_mknod_can_be_denied_as_well(stage: Stage) -> None:
    rules = [{"allow": True}, {**LOCAL, "allow": False, "access": "m"}]
    assert said(stage, rules, "mknod /tmp/k c 240 7 2>&1; mknod /tmp/k c 240 8 && echo made") == [
        "mknod: /tmp/k: Operation not permitted",
        "made",
    ]


@pytest.mark.busybox
def test_the_last_rule_decides(stage: Stage) -> None:
    allow, deny = {**LOCAL, "allow": True, "access": "r"}, {**LOCAL, "allow": False, "access": "r"}
    assert said(stage, [DENY, allow, deny], TRY) == [DENIED]
    assert said(stage, [allow, DENY], TRY) == [DENIED]
    assert said(stage, [DENY, deny, allow], TRY) == [OPENED]


@pytest.mark.busybox
def test_wildcards(stage: Stage) -> None:
    for wild in ({"major": 240}, {"minor": 7}, {}, {"major": -1, "minor": 7}):
        assert said(stage, [DENY, {"allow": True, "type": "c", "access": "rw", **wild}], TRY) == [OPENED]
    for other in ({"major": 241}, {"minor": 8}):
        assert said(stage, [DENY, {"allow": True, "type": "c", "access": "rw", **other}], TRY) == [DENIED]
    assert said(stage, [DENY, {"allow": True, "type": "b", "access": "rw"}], TRY) == [DENIED]


@pytest.mark.busybox
def test_a_list_without_a_first_denial_begins_with_nothing(stage: Stage) -> None:
    assert said(stage, [{**LOCAL, "minor": 8, "allow": True}], TRY) == [DENIED]


@pytest.mark.busybox
def test_everything_but_some(stage: Stage) -> None:
    rules = [{"allow": True}, {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "rw"}]
    script = f"{TRY}; head -c 0 /dev/zero 2>&1"
    assert said(stage, rules, script) == [OPENED, "head: /dev/zero: Operation not permitted"]


@pytest.mark.busybox
def test_without_rules_it_has_its_parents(stage: Stage) -> None:
    """The stage's parent has none: the engine's has Docker's (asyncrt/supervisor/cgroups.py)."""
    assert said(stage, [], TRY) == [OPENED]


@pytest.mark.busybox
def test_an_exec_has_the_same_rules(stage: Stage) -> None:
    box = stage.start(shell("sleep 60", linux={"resources": {"devices": [DENY]}}))
    assert box.run_inside("sh", "-c", TRY) == f"{DENIED}\n"


@pytest.mark.busybox
def test_a_node_of_the_config_still_needs_its_rule(stage: Stage) -> None:
    """The node is made by init, which is in the cgroup by then: every list allows mknod, as runc's do."""
    device = {"path": "/dev/local", **LOCAL}
    document = shell("head -c 0 /dev/local 2>&1", linux={"devices": [device], "resources": {"devices": [DENY]}})
    assert stage.run(document).log("stdout") == b"head: /dev/local: Operation not permitted\n"


def test_a_list_that_v1_cannot_keep(stage: Stage) -> None:
    rules = [DENY, {"allow": True, "type": "c", "major": 240}, {**LOCAL, "allow": False}]
    if stage.hierarchies[0].version == 2:
        assert said(stage, rules, TRY) == [DENIED]
        return
    with pytest.raises(
        TemplateFailed, match=r'\$\.linux\.resources\.devices: cgroup v1 cannot take "c 240:7 rwm" out of'
    ):
        stage.template(shell("true", linux={"resources": {"devices": rules}}))
