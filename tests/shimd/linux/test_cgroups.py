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
