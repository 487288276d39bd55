"""Cgroup files, and what they say of processes."""

import os
import subprocess
from pathlib import Path

import pytest

from shimd.linux import cgroups

TREES = cgroups.hierarchies()


def test_a_long_list_is_read_whole(tmp_path: Path) -> None:
    pids = list(range(100_000, 130_000))
    (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    assert cgroups.processes(str(tmp_path)) == pids


def test_processes_of_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    assert cgroups.processes(str(tmp_path / "gone")) == []
    assert cgroups.all_processes(str(tmp_path / "gone")) == []
    assert cgroups.names(str(tmp_path / "gone")) == []


def v2(place: Path, **files: str) -> cgroups.Hierarchy:
    """Files as a v2 root has them, and below it `parent` with these. What is written to them does nothing."""
    parent = place / "parent"
    parent.mkdir()
    root = {"controllers": "cpu memory", "subtree_control": "cpu memory", "procs": "1\n"}
    for directory, texts in ((place, root), (parent, files)):
        for name, text in texts.items():
            (directory / f"cgroup.{name}").write_text(text)
    return cgroups.Hierarchy(2, str(place), ("cpu", "memory"))


def test_a_cgroup_with_processes_hands_on_nothing(tmp_path: Path) -> None:
    """cgroup-v2.rst, "No Internal Process Constraint". The kernel alone would make it a threaded one by `+cpu`."""
    tree = v2(tmp_path, type="domain", controllers="cpu memory", subtree_control="", procs="7\n")
    with pytest.raises(OSError, match="busy") as caught:
        cgroups.make_parent(tree, "/parent")
    assert caught.value.filename == str(tmp_path / "parent")
    cgroups.make_parent(tree, "/parent", must_delegate=False)
    assert (tmp_path / "parent/cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize(
    ("files", "handed"),
    [
        ({"type": "domain", "controllers": "cpu memory", "procs": ""}, "+memory"),  # the last that was written
        ({"type": "domain", "controllers": "", "procs": "7\n"}, ""),  # nothing was given to it: nothing to hand on
        ({"type": "domain threaded", "controllers": "cpu", "procs": "7\n"}, "+cpu"),  # somebody chose that
    ],
)
def test_a_cgroup_that_hands_on_what_it_has(tmp_path: Path, files: dict[str, str], handed: str) -> None:
    tree = v2(tmp_path, subtree_control="", **files)
    cgroups.make_parent(tree, "/parent")
    assert (tmp_path / "parent/cgroup.subtree_control").read_text()[-len(handed) :] == handed


@pytest.mark.root
def test_more_processes_than_one_read_gives() -> None:
    """The kernel fills a page, whatever the buffer: each pid has up to eight bytes."""
    tree = next(tree for tree in TREES if "pids" in tree.controllers)
    directory = f"{tree.mount}/asyncrt-test-procs-{os.getpid()}"
    os.mkdir(directory)
    script = (
        f"echo 0 > {directory}/cgroup.procs; n=0; while [ $n -lt 900 ]; do sleep 900 & n=$((n+1)); done; echo; wait"
    )
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    try:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"\n"
        assert len(cgroups.processes(directory)) == 901
    finally:
        for _ in range(3):
            cgroups.kill(tree, directory)
        shell.communicate()
        cgroups.remove(directory)


@pytest.mark.root
def test_own_path() -> None:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    paths = [line[3:] for line in lines if line.startswith("0::")]
    if not paths:
        pytest.skip("this machine has no cgroup2")
    assert cgroups.own_path(os.getpid()) == paths[0]
    with pytest.raises(FileNotFoundError):
        cgroups.own_path(1 << 22)
