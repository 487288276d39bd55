"""What the limits of running containers do, as it happens: one epoll and one job for all, woken by the kernel.

    monitor = Monitor(hierarchies, tell)
    monitor.watch(id, cgroup, told={}, silent=False)     # when it runs and has a limit
    monitor.forget(id)                                      # when it ended

`tell(id, news)` is called at once and in order. What happened last may not have been told when a container ends: its
exit record has the count, and who gets it compares (engine/ending.py). A cgroup that hits its limit all the time is
looked at ten times a second, not more: its notice is off in between (EPOLLONESHOT).

The kernel tells nobody that a CPU quota was used up, nor on v1 that a fork failed. Containers with such a limit are
looked at every LOOK_SECONDS, all in one round; where no container has one nothing is ever polled.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import structlog
import trio

from shimd.linux import cgroups, notices, stats
from shimd.linux.cgroups import Hierarchy
from shimd.linux.notices import Notice
from shimd.linux.stats import Events

REST_SECONDS = 0.1  # between two looks at one container
LOOK_SECONDS = 5.0  # between two rounds for what the kernel does not tell
_log = structlog.get_logger("asyncrt.supervisor.monitor")


class News(NamedTuple):
    """`kind` is of KINDS, or frozen or thawed (v2); `more` since the last time, `total` since it began.

    `cgroup` is whose limit it was, for oom alone.
    """

    kind: str
    more: int
    total: int
    cgroup: str = ""


Tell = Callable[[str, News], None]
# kind: (field of stats.Events, seconds between two tellings)
KINDS: dict[str, tuple[str, float]] = {
    "oom": ("oom_kills", 0.0),
    "memory_max": ("limit_hits", 1.0),
    "memory_high": ("high", 1.0),
    "pids_max": ("fork_failures", 1.0),
    "cpu_throttled": ("throttled_periods", 10.0),
}


class _Watched:
    __slots__ = ("cgroup", "frozen", "id", "notices", "resting", "silent", "told", "told_at")

    def __init__(self, id: str, cgroup: str, silent: bool) -> None:
        self.id = id
        self.cgroup = cgroup
        self.silent = silent
        """Has it a limit of which the kernel tells nothing?"""
        self.notices: list[Notice] = []
        self.resting = False
        self.frozen = False
        self.told: dict[str, int] = {}
        self.told_at: dict[str, float] = {}


class Monitor:
    """run() is a job of the supervisor's; the rest may be called at any time on its thread."""

    def __init__(self, hierarchies: Sequence[Hierarchy], tell: Tell) -> None:
        self._trees = list(hierarchies)
        self._tell = tell
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Watched] = {}
        self._watched: dict[str, _Watched] = {}
        self._silent: dict[str, _Watched] = {}
        self._some_silent = trio.Event()
        self._jobs: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, id: str, cgroup: str, told: Mapping[str, int], silent: bool = False) -> None:
        """Begin. What was `told` already, in all by kind, is not told again, and what it did before this call is;
        `silent`: it has a limit of which the kernel tells nothing. A cgroup that is gone is not watched."""
        self.forget(id)
        one = _Watched(id, cgroup, silent)
        try:
            one.notices += _notices(self._trees, cgroup)
            for notice in one.notices:
                self._epoll.register(notice.fd, notice.events | select.EPOLLONESHOT)
                self._by_fd[notice.fd] = one
        except OSError as error:
            self._close(one)
            _log.info("not watched", container=id, cgroup=cgroup, error=str(error))
            return
        self._watched[id] = one
        if silent:
            self._silent[id] = one
            self._some_silent.set()
        one.told = {kind: told.get(kind, 0) for kind in KINDS}
        one.frozen = self._is_frozen(cgroup)
        self._compare(one, stats.events(self._trees, cgroup))

    def forget(self, id: str) -> None:
        """Let go of what the kernel holds for it. One that is not watched is fine."""
        one = self._watched.pop(id, None)
        self._silent.pop(id, None)
        if one is not None:
            self._close(one)

    def _close(self, one: _Watched) -> None:
        for notice in one.notices:
            self._by_fd.pop(notice.fd, None)
            os.close(notice.fd)  # which takes it out of the epoll as well
        one.notices.clear()

    async def run(self) -> None:
        """Until cancelled; closes everything."""
        try:
            async with trio.open_nursery() as self._jobs:
                self._jobs.start_soon(self._look_around)
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    for fd, _ in self._epoll.poll(0):
                        one = self._by_fd.get(fd)
                        if one is not None:
                            self._look(one)
        finally:
            for id in tuple(self._watched):
                self.forget(id)
            self._epoll.close()

    async def _look_around(self) -> None:
        """At those that the kernel is silent about; asleep for good while there are none."""
        while True:
            await self._some_silent.wait()
            await trio.sleep(LOOK_SECONDS)
            for one in tuple(self._silent.values()):
                if not one.resting:
                    self._compare(one, stats.events(self._trees, one.cgroup))
            if not self._silent:
                self._some_silent = trio.Event()

    def _look(self, one: _Watched) -> None:
        """There is news of it: tell it, and look again after a rest: v1 speaks before it kills."""
        self._compare(one, stats.events(self._trees, one.cgroup))
        if not one.resting and self._jobs is not None:
            one.resting = True
            self._jobs.start_soon(self._rest, one)

    async def _rest(self, one: _Watched) -> None:
        await trio.sleep(REST_SECONDS)
        one.resting = False
        if self._watched.get(one.id) is not one:
            return
        for notice in one.notices:
            notices.rearm(notice)
        self._compare(one, stats.events(self._trees, one.cgroup))
        for notice in one.notices:
            self._epoll.modify(notice.fd, notice.events | select.EPOLLONESHOT)

    def _compare(self, one: _Watched, now: Events) -> None:
        moment = trio.current_time()
        for kind, (field, pause) in KINDS.items():
            total = getattr(now, field)
            more = total - one.told[kind]
            if more <= 0 or moment - one.told_at.get(kind, -pause) < pause:
                continue
            one.told[kind] = total
            one.told_at[kind] = moment
            self._tell(one.id, News(kind, more, total, self._origin(one) if kind == "oom" else ""))
        frozen = self._is_frozen(one.cgroup)
        if frozen is not one.frozen:
            one.frozen = frozen
            self._tell(one.id, News("frozen" if frozen else "thawed", 1, 1))

    def _is_frozen(self, cgroup: str) -> bool:
        """v2 alone: v1 tells nobody, so it is never looked."""
        tree = self._trees[0] if self._trees else None
        if tree is None or tree.version == 1:
            return False
        return cgroups.read_number(tree.mount + cgroup, "cgroup.events", "frozen") == 1

    def _origin(self, one: _Watched) -> str:
        return next((notices.oom_origin(tree, one.cgroup) for tree in self._trees if "memory" in tree.controllers), "")


def _notices(trees: Sequence[Hierarchy], cgroup: str) -> list[Notice]:
    """All notices of a cgroup; OSError if one cannot be had, and then none is open."""
    found: list[Notice | None] = []
    try:
        for tree in trees:
            directory = tree.mount + cgroup
            if "memory" in tree.controllers:
                found.append(notices.of_memory(tree, directory))
                found.append(notices.of_limit(tree, directory))
            if "pids" in tree.controllers:
                found.append(notices.of_pids(tree, directory))
            found.append(notices.of_core(tree, directory))
    except OSError:
        for notice in found:
            if notice is not None:
                os.close(notice.fd)
        raise
    return [notice for notice in found if notice is not None]
