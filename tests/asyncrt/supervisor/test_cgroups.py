"""The parent of all cgroups: its device rules, who holds it, and what becomes of one that nobody holds."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncrt.supervisor.cgroups import Cgroups, parent_for, sweep
from shimd.linux import bpf, cgroups, device_rules
from tests.engine import Engine, closed
from tests.patience import until

pytestmark = pytest.mark.root
TREES = cgroups.hierarchies()
# With the pid, nobody else's; with sixteen digits, a name that a supervisor gives.
NAMES = tuple(f"/asyncrt-{kind}{os.getpid():015x}" for kind in "ab")


def present(name: str) -> int:
    """In how many hierarchies it is."""
    return sum(os.path.isdir(tree.mount + name) for tree in TREES)


def make(name: str) -> None:
    for tree in TREES:
        os.mkdir(tree.mount + name)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    yield
    for tree in TREES:
        for name in NAMES:
            cgroups.remove(tree.mount + name)


@pytest.fixture
def parent() -> Iterator[Cgroups]:
    made = Cgroups(NAMES[0])
    made.open()
    yield made
    made.close()


def test_it_has_dockers_device_rules(parent: Cgroups) -> None:
    if TREES[0].version == 2:
        fd = os.open(TREES[0].mount + NAMES[0], os.O_RDONLY | os.O_DIRECTORY)
        assert len(bpf.attached(fd)) == 1
        os.close(fd)
        return
    [mount] = [tree.mount for tree in TREES if "devices" in tree.controllers]
    os.mkdir(f"{mount}{NAMES[0]}/box")
    rules = sorted(str(rule) for rule in device_rules.DEFAULT)
    assert sorted(cgroups.read(f"{mount}{NAMES[0]}/box", "devices.list").splitlines()) == rules


def test_opening_it_again_changes_nothing(parent: Cgroups) -> None:
    """A new supervisor after one that was killed; with a container that lives on."""
    for tree in TREES:
        os.mkdir(f"{tree.mount}{NAMES[0]}/box")
    again = Cgroups(NAMES[0])
    again.open()
    assert again.ids() == {"box"}
    again.close()  # a container lives in it, as far as that one can see
    assert present(NAMES[0]) == len(TREES)
    assert parent.destroy("box") == []


def test_what_nobody_holds_is_removed(parent: Cgroups) -> None:
    make(NAMES[1])
    for tree in TREES:
        assert NAMES[1][1:] in sweep(tree, NAMES[0])
    assert present(NAMES[1]) == 0
    assert present(NAMES[0]) == len(TREES)


def test_what_is_held_stays(parent: Cgroups) -> None:
    for tree in TREES:
        assert NAMES[0][1:] not in sweep(tree, "/asyncrt-other")
    assert present(NAMES[0]) == len(TREES)


def test_what_is_lived_in_stays() -> None:
    make(NAMES[1])
    for tree in TREES:
        os.mkdir(f"{tree.mount}{NAMES[1]}/box")
        assert NAMES[1][1:] not in sweep(tree, NAMES[0])
    assert present(NAMES[1]) == len(TREES)


@pytest.mark.parametrize("name", [f"/asyncrt-bench-{os.getpid()}", f"/asyncrt-{os.getpid():012x}"])
def test_other_names_stay(name: str) -> None:
    tree = TREES[0]
    os.mkdir(tree.mount + name)
    try:
        assert name[1:] not in sweep(tree, NAMES[0])
        assert os.path.isdir(tree.mount + name)
    finally:
        os.rmdir(tree.mount + name)


def awake(engine: Engine) -> None:
    """Its supervisor runs. An emulated machine may need more than the 15 s that the command line gives it."""
    until(lambda: engine.cli("info").returncode == 0, "the supervisor runs")


def killed(engine: Engine) -> str:
    """Kill the supervisor; its parent cgroup."""
    name = parent_for(engine.state)
    awake(engine)
    pid = engine.supervisor_pid()
    assert present(name) == len(TREES)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the supervisor is gone")
    return name


def test_the_parent_of_a_supervisor_that_was_killed_for_good(engine: Engine) -> None:
    """The next one of the machine removes it, though its own state is elsewhere."""
    name = killed(engine)
    assert present(name) == len(TREES)
    other = Engine()
    try:
        awake(other)
        assert present(name) == 0
    finally:
        closed(other)


def test_its_own_successor_uses_it(engine: Engine, rootfs: Path) -> None:
    name = killed(engine)
    assert engine.cli("run", "--rm", f"rootfs:{rootfs}", "echo", "again", check=True).stdout == "again\n"
    assert present(name) == len(TREES)
    engine.cli("daemon", "stop", check=True)
    assert present(name) == 0


@pytest.mark.busybox
def test_a_container_can_make_a_node_but_not_open_the_disk(engine: Engine, rootfs: Path) -> None:
    """Docker gives CAP_MKNOD and relies on the rules (decision 0008). 254:0 is a disk, 240:7 nobody's."""
    script = """
    mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk 2>&1
    mknod /tmp/local c 240 7 && head -c 1 /tmp/local 2>&1
    mknod /tmp/null c 1 3 && echo x > /tmp/null && echo written
    """
    done = engine.cli("run", "--rm", f"rootfs:{rootfs}", "sh", "-c", script)
    assert done.stdout.splitlines() == [
        "head: /tmp/disk: Operation not permitted",
        "head: /tmp/local: Operation not permitted",
        "written",
    ]
    refused = engine.cli("run", "--rm", "--cap-drop", "MKNOD", f"rootfs:{rootfs}", "mknod", "/tmp/null", "c", "1", "3")
    assert "Operation not permitted" in refused.stderr


@pytest.mark.busybox
def test_after_a_crash_the_rules_are_there(engine: Engine, rootfs: Path) -> None:
    engine.cli("run", "-d", "--name", "box", f"rootfs:{rootfs}", "sleep", "600", check=True)
    killed(engine)
    script = "mknod /tmp/local c 240 7; head -c 1 /tmp/local 2>&1"
    for command in (("exec", "box"), ("run", "--rm", f"rootfs:{rootfs}")):
        said = engine.cli(*command, "sh", "-c", script).stdout
        assert said == "head: /tmp/local: Operation not permitted\n"
