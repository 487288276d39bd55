"""Who runs: what descends from the bench's keeper, told apart into containers, helpers and others.

By descent, not by name: other people's `sleep 600` on the same machine is not ours to count, nor to end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    name: str
    ticks: int = 0  # CPU, its own and its waited-for children's (proc(5), fields 14 to 17)
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """KiB of one process, from /proc/PID/smaps_rollup (proc(5))."""

    private: int
    pss: int


def descendants(root: int) -> list[Process]:
    """All living processes below `root`; zombies and `root` itself are left out."""
    return [found for found in _below(root, _scan()) if not found.dead]


def foreign_cpu(root: int) -> int:
    """Clock ticks of user-space processes outside of `root`'s tree, with those of children they waited for.

    Kernel threads (children of kthreadd, pid 2) are not foreign: they work for whoever gave them work.
    """
    processes = _scan()
    own = {root, *(process.pid for process in _below(root, processes))}
    return sum(p.ticks for p in processes if p.pid not in own and 2 not in (p.pid, p.parent))


def containers(processes: list[Process], command: list[str]) -> list[Process]:
    """Those that are PID 1 of a pid namespace of their own and run `command` (so: past their exec)."""
    wanted = b"\0".join(word.encode() for word in command) + b"\0"
    return [process for process in processes if _runs(process.pid, wanted)]


def helpers(inits: list[Process], processes: list[Process]) -> list[Process]:
    """The living process beside each container: its parent, if that belongs to this container alone.

    That is the shim of containerd, docker and asyncrt and the conmon of podman. crun and runc leave none:
    their containers are orphans, adopted by the keeper, which is not among `processes`.
    """
    by_pid = {process.pid: process for process in processes}
    charges: dict[int, int] = {}
    for init in inits:
        charges[init.parent] = charges.get(init.parent, 0) + 1
    return [by_pid[pid] for pid, count in charges.items() if count == 1 and pid in by_pid]


def memory(pid: int) -> Memory | None:
    """Private (clean and dirty) and proportional memory of a process; None if it is gone."""
    fields = {"Private_Clean": 0, "Private_Dirty": 0, "Pss": 0}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            key, value = line.split(":", 1)
            if key in fields:
                fields[key] = int(value.split()[0])
    except (OSError, ValueError):
        return None
    return Memory(private=fields["Private_Clean"] + fields["Private_Dirty"], pss=fields["Pss"])


def _runs(pid: int, wanted: bytes) -> bool:
    try:
        if Path(f"/proc/{pid}/cmdline").read_bytes() != wanted:
            return False
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    inside = next((line for line in status.splitlines() if line.startswith("NSpid:")), "").split()[1:]
    return len(inside) > 1 and inside[-1] == "1"


def _scan() -> list[Process]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                stat = file.read()
        except OSError:
            continue  # gone meanwhile
        # The name may hold spaces and parentheses: it ends at the last one.
        opened, closed = stat.index(b"("), stat.rindex(b")")
        fields = stat[closed + 2 :].split(b" ", 16)
        name = stat[opened + 1 : closed].decode(errors="replace")
        ticks = sum(int(field) for field in fields[11:15])
        found.append(Process(int(entry), int(fields[1]), name, ticks, fields[0] in (b"Z", b"X")))
    return found


def _below(root: int, processes: list[Process]) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += [process.pid for process in below]
    return found
