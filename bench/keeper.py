"""The keeper: the bench's parent process, a subreaper that ends what is left and removes what was made.

    keeper (host namespaces) --fork--> bench (private namespaces) --> daemons, commands, containers
                            <--orphans-- shims, conmons, detached containers

Engines detach their helpers, so these become children of the nearest subreaper: of the keeper, which
therefore knows by descent, not by name, what belongs to the run. Also PID 1 of a container or a test
machine may reap slowly, and a zombie keeps its cgroup busy. When the bench ends, however it ends, the
keeper kills what still descends from it and removes the cgroups and the work folder.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from bench.census import descendants
from bench.machine import remove_cgroups

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def keep(work: Path, cgroup_parent: str, bench: Callable[[], int]) -> int:
    """Run `bench` in a child and clean up behind it; returns its exit code (128 + n for signal n)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        # If the keeper is killed, the bench still gets to clean up behind itself.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        _leave(bench, keeper, work)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the bench as well
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: os.kill(child, received))
    status = _reap_until(child)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    left = end_descendants(keeper, spare=frozenset())
    stuck = remove_cgroups(cgroup_parent)
    shutil.rmtree(work, ignore_errors=True)
    for what in [*(f"process {pid}" for pid in left), *stuck, *([str(work)] if work.exists() else [])]:
        print(f"bench: could not remove {what}", file=sys.stderr)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def end_descendants(root: int, spare: frozenset[int], timeout: float = 15.0) -> list[int]:
    """SIGKILL whatever descends from `root`, but for `spare`; returns what is left after `timeout` s.

    None is believed only when three looks in a row find none: a walk over /proc misses the child of a process
    that dies during the walk.
    """
    deadline, empty = time.monotonic() + timeout, 0
    while True:
        found = [process.pid for process in descendants(root) if process.pid not in spare]
        empty = 0 if found else empty + 1
        if empty == 3 or time.monotonic() > deadline:
            return found
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if os.getpid() == root:
            _reap_dead()
        time.sleep(0.02)


def _leave(bench: Callable[[], int], keeper: int, work: Path) -> None:
    """The child's whole life; never returns."""
    code = 1
    try:
        if os.getppid() == keeper:
            code = bench()
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001  (a fork must not return into its caller)
        traceback.print_exc()
    finally:
        if os.getppid() != keeper:
            shutil.rmtree(work, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap_until(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return status


def _reap_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return
