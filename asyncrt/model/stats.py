"""What containers use now, and what runs in them."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct, frozen=True):
    """One container at one moment. Bytes, nanoseconds; -1 where the kernel does not say, a limit of 0 is none.

    `cpu_percent` is of one core (two busy cores are 200), since the sample before of the same request; in the first
    since the container started. `memory` leaves out the page cache that the kernel would give back (inactive files), as
    docker does; `cache` is that part.
    """

    id: str
    name: str
    time_ns: int
    cpu_ns: int = -1
    cpu_percent: float = -1.0
    throttled_ns: int = -1
    memory: int = -1
    memory_limit: int = 0
    cache: int = -1
    pids: int = -1
    pids_limit: int = 0
    read_bytes: int = -1
    written_bytes: int = -1


class Process(msgspec.Struct, frozen=True):
    """One process of a container. `pid` and `parent` are the machine's numbers, `inside` is the container's.

    `state` is proc_pid_stat(5)'s letter; `cpu_ns` user and system time; `memory` its resident bytes.
    """

    pid: int
    inside: int
    parent: int
    uid: int
    state: str
    started_ns: int
    cpu_ns: int
    memory: int
    command: str


class Pressure(msgspec.Struct, frozen=True):
    """How long tasks of a container waited for a resource (cpu, io or memory): some of them, and all at once (`full`).

    `avg10` is the share of the last ten seconds in percent, `total_us` the time since the account began.
    """

    resource: str
    time_ns: int
    some_avg10: float = 0.0
    some_total_us: int = 0
    full_avg10: float = 0.0
    full_total_us: int = 0
