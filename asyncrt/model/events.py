"""What happened, with a sequence number, so that a client resumes after N without a gap."""

from __future__ import annotations

import msgspec


class Event(msgspec.Struct, frozen=True):
    """`action` is create, start, die, destroy, kill, exec_start, exec_die, start_failed or adopt; or what a limit did:

    oom (`kills` since the last, `total`, `cgroup`: whose limit it was), always before the die that it caused;
    memory_max, memory_high, pids_max (`hits` since the last, at most once a second), cpu_throttled (periods, every
    ten seconds); frozen and thawed (cgroup v2); cpu_pressure, io_pressure and memory_pressure, while somebody watches.
    docs/cgroups.md says which kernel tells what.

    `seq` grows by one per event and is kept across restarts of the supervisor; `time_ns` since 1970.
    """

    seq: int
    time_ns: int
    action: str
    id: str
    name: str = ""
    attributes: dict[str, str | int] = {}
