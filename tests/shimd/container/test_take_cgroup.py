"""A cgroup at a path that somebody else chose: made with what is above it, taken if it is there."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from shimd.container import launch
from shimd.container.cgroups import CreateCgroup, TakeCgroup, compile_cgroups
from shimd.container.making import Anchors, Making, OutsideOperation
from shimd.container.plan import Plan, compile_plan
from shimd.errors import RuntimeTrouble
from shimd.linux import cgroups
from shimd.spec.resources import Memory, Pids, Resources
from shimd.spec.validate import load
from tests.shimd.configs import config

pytestmark = pytest.mark.root
TREES = cgroups.hierarchies()


@pytest.fixture
def top() -> Iterator[str]:
    """A cgroup path; what was made there is removed."""
    path = f"/asyncrt-test-take-{os.getpid()}"
    yield path
    for tree in TREES:
        cgroups.remove(tree.mount + path)


def making(cgroup: str) -> Making:
    return Making("box", Anchors("", "", ""), [], cgroup, "", [], {})


def take(steps: list[OutsideOperation], cgroup: str) -> Making:
    """Do the steps, as a start does, and forget the fds."""
    plan: Plan = compile_plan(load(config("sh")), [], stdin=False)._replace(outside=tuple(steps))
    made = making(cgroup)
    try:
        launch.prepare(plan, made)
    finally:
        made.close()
    return made


def left(path: str) -> list[str]:
    return [tree.mount + path for tree in TREES if os.path.exists(tree.mount + path)]


def test_cgroups_above_are_made_and_hand_on_controllers(top: str) -> None:
    steps = compile_cgroups(Resources(memory=Memory(limit=32 << 20), pids=Pids(9)), TREES, standalone=True)
    take(steps, f"{top}/a/b")
    assert len(left(f"{top}/a/b")) == len(TREES)
    names = {tree.version: tree.mount for tree in TREES if {"pids"} & set(tree.controllers)}
    [mount] = names.values()
    assert cgroups.read(f"{mount}{top}/a/b", "pids.max") == "9\n"
    launch.undo(steps, making(f"{top}/a/b"))
    assert left(f"{top}/a/b") == []
    assert left(f"{top}/a") != []  # somebody else may use it by now


def test_an_empty_one_is_taken(top: str) -> None:
    for tree in TREES:
        cgroups.make_parent(tree, top)
        os.makedirs(f"{tree.mount}{top}/box")
    take([TakeCgroup(tree) for tree in TREES], f"{top}/box")


def test_one_in_which_something_lives_is_shared_and_left(top: str) -> None:
    tree = next(tree for tree in TREES if "pids" in tree.controllers)
    cgroups.make_parent(tree, top)
    os.makedirs(f"{tree.mount}{top}/box/below")
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            cgroups.write(f"{tree.mount}{top}/box/below", "cgroup.procs", str(sleeper.pid))
            steps: list[OutsideOperation] = [TakeCgroup(tree)]
            made = take(steps, f"{top}/box")
            assert made.neighbours == [sleeper.pid]
            assert launch.undo(steps, made) == []
            assert cgroups.all_processes(f"{tree.mount}{top}/box") == [sleeper.pid]
        finally:
            sleeper.kill()


def test_one_that_is_frozen_is_refused(top: str) -> None:
    tree = next(tree for tree in TREES if tree.version == 2 or "freezer" in tree.controllers)
    cgroups.make_parent(tree, top)
    directory = f"{tree.mount}{top}/box"
    os.mkdir(directory)
    file, frozen, thawed = ("cgroup.freeze", "1", "0") if tree.version == 2 else ("freezer.state", "FROZEN", "THAWED")
    cgroups.write(directory, file, frozen)
    with pytest.raises(RuntimeTrouble, match="container's cgroup unexpectedly frozen"):
        take([TakeCgroup(tree)], f"{top}/box")
    cgroups.write(directory, file, thawed)
    take([TakeCgroup(tree)], f"{top}/box")


def test_what_failed_later_is_undone(top: str) -> None:
    steps = compile_cgroups(Resources(), TREES, standalone=True)
    steps.append(CreateCgroup(TREES[0]))  # it is there by now
    with pytest.raises(RuntimeTrouble, match="file exists"):
        take(steps, f"{top}/box")
    assert left(f"{top}/box") == []


def test_a_limit_below_a_cgroup_with_processes_is_refused_by_name(top: str) -> None:
    """v2: it cannot hand on its controllers (the no-internal-process rule)."""
    tree = TREES[0]
    if tree.version == 1:
        pytest.skip("this machine has cgroup v1")
    os.mkdir(tree.mount + top)
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            cgroups.write(tree.mount + top, "cgroup.procs", str(sleeper.pid))
            steps = compile_cgroups(Resources(memory=Memory(limit=32 << 20)), TREES, standalone=True)
            words = r"set limit memory.max=33554432: the memory controller has no such file here: .* the cgroup above"
            with pytest.raises(RuntimeTrouble, match=words):
                take(steps, f"{top}/box")
            assert left(f"{top}/box") == []
        finally:
            sleeper.kill()
