"""What the machine says of a process or container: from /proc and the cgroup files, not from the engine."""

import os
from pathlib import Path

from shimd.linux import cgroups
from tests.engine import Engine


def alive(pid: int) -> bool:
    """It runs; a zombie does not."""
    return state(pid) not in ("", "Z", "X")


def state(pid: int) -> str:
    """proc_pid_stat(5)'s letter; empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def cpu_ticks(pid: int) -> int:
    """Clock ticks of a process and of the children that it waited for (proc(5), fields 14 to 17)."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))


def children(pid: int) -> list[int]:
    """Of all its threads."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def cgroup_dirs(engine: Engine, id: str) -> list[Path]:
    """Where the container has a cgroup."""
    parent = engine.json("info")["cgroup_parent"]
    places = [Path(f"{tree.mount}{parent}/{id}") for tree in cgroups.hierarchies()]
    return [place for place in places if place.is_dir()]


def cgroup_text(engine: Engine, id: str, v1: str, v2: str) -> str:
    """A limit as the kernel has it: the file of the name that this machine's version uses."""
    for place in cgroup_dirs(engine, id):
        for file in (place / v1, place / v2):
            if file.exists():
                return file.read_text().strip()
    raise AssertionError(f"container {id} has neither {v1} nor {v2}")


def members(engine: Engine, id: str) -> set[int]:
    """The processes in the container's cgroups."""
    files = [place / "cgroup.procs" for place in cgroup_dirs(engine, id)]
    return {int(word) for file in files for word in file.read_text().split()}
