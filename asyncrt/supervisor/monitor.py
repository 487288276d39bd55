"""What the limits of running containers do, as it happens: one epoll and one job for all, woken by the kernel alone.

    monitor = Monitor(hierarchies, tell)
    monitor.watch(id, cgroup, oom_kills=0)      # when it runs and has a limit
    monitor.forget(id)                          # when it ended

`tell(id, news)` is called at once and in order. What happened last may not have been told when a container ends: its
exit record has the count, and who gets it compares (engine/ending.py). A cgroup that hits its limit all the time is
looked at ten times a second, not more: its notice is off in between (EPOLLONESHOT).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
import trio

from shimd.linux import notices, stats
from shimd.linux.cgroups import Hierarchy
from shimd.linux.notices import Notice
from shimd.linux.stats import Events

REST_SECONDS = 0.1  # between two looks at one container
PRESSURE_SECONDS = 1.0  # between two tellings of the same pressure
_log = structlog.get_logger("asyncrt.supervisor.monitor")


class News(NamedTuple):
    """`kind` is oom, memory_max, memory_high or pids_max; `more` since the last time, `total` since it began.

    `cgroup` is whose limit it was, for oom alone.
    """

    kind: str
    more: int
    total: int
    cgroup: str = ""


Tell = Callable[[str, News], None]
# kind: (field of stats.Events, may it be told at once)
KINDS: dict[str, tuple[str, bool]] = {
    "oom": ("oom_kills", True),
    "memory_max": ("limit_hits", False),
    "memory_high": ("high", False),
    "pids_max": ("fork_failures", False),
}


class _Watched:
    __slots__ = ("cgroup", "id", "notices", "resting", "told", "told_at")

    def __init__(self, id: str, cgroup: str) -> None:
        self.id = id
        self.cgroup = cgroup
        self.notices: list[Notice] = []
        self.resting = False
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
        self._rests: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, id: str, cgroup: str, oom_kills: int = 0) -> None:
        """Begin. `oom_kills` were told already, by a supervisor before us. A cgroup that is gone is not watched."""
        self.forget(id)
        one = _Watched(id, cgroup)
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
        now = stats.events(self._trees, cgroup)
        one.told = {kind: max(getattr(now, field), 0) for kind, (field, _) in KINDS.items()}
        one.told["oom"] = oom_kills
        if now.oom_kills > oom_kills:
            self._compare(one, now)

    def forget(self, id: str) -> None:
        """Let go of what the kernel holds for it. One that is not watched is fine."""
        one = self._watched.pop(id, None)
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
            async with trio.open_nursery() as self._rests:
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

    def _look(self, one: _Watched) -> None:
        """There is news of it: tell it, and look again after a rest: v1 speaks before it kills."""
        self._compare(one, stats.events(self._trees, one.cgroup))
        if not one.resting and self._rests is not None:
            one.resting = True
            self._rests.start_soon(self._rest, one)

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
        for kind, (field, at_once) in KINDS.items():
            total = getattr(now, field)
            more = total - one.told[kind]
            moment = trio.current_time()
            if more <= 0 or not (at_once or moment - one.told_at.get(kind, -PRESSURE_SECONDS) >= PRESSURE_SECONDS):
                continue
            one.told[kind] = total
            one.told_at[kind] = moment
            self._tell(one.id, News(kind, more, total, self._origin(one) if kind == "oom" else ""))

    def _origin(self, one: _Watched) -> str:
        return next((notices.oom_origin(tree, one.cgroup) for tree in self._trees if "memory" in tree.controllers), "")


def _notices(trees: Sequence[Hierarchy], cgroup: str) -> list[Notice]:
    """All notices of a cgroup; OSError if one cannot be had, and then none is open."""
    found: list[Notice] = []
    try:
        for tree in trees:
            directory = tree.mount + cgroup
            if "memory" in tree.controllers:
                found.append(notices.of_memory(tree, directory))
            if "pids" in tree.controllers and (notice := notices.of_pids(tree, directory)) is not None:
                found.append(notice)
    except OSError:
        for notice in found:
            os.close(notice.fd)
        raise
    return found
