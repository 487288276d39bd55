"""A parent for the test run that reaps what the tests orphan, and at the end kills what they left.

Containers' shims and supervisors daemonise: their parents exit and somebody else has to reap them. PID 1 does
that late or never on many a test machine (a container's `sleep`, a virtual machine's agent), and then a
process that is long dead still counts as left over. pytest itself cannot be that somebody: `waitpid(-1)`
beside `subprocess` steals exit statuses. So the run forks once, at its very start: the child goes on as
pytest, the parent stays as a subreaper.

That also makes "a process of this run" exact: whatever descends from the reaper, however it daemonised.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Names the reaper to a pytest that a test starts, so that it does not split again.
MARK = "ASYNCRT_TESTS_REAPER"


def family() -> int:
    """The pid whose descendants are the processes of this run: the reaper, or this process where there is
    none."""
    return int(os.environ.get(MARK) or os.getpid())


def split() -> None:
    """Forks; returns in the child. The parent ends with the child's exit status and never returns.

    To be called before there are threads, while stdout and stderr are the real ones.
    """
    if MARK in os.environ:
        return
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.environ[MARK] = str(os.getpid())
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        _reap_until_end_of(child)
    # Else `kill -9` of the reaper leaves tests running with nobody behind them. TERM, for the fixtures' sake.
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
    # pytest tears its fixtures down after a KeyboardInterrupt; SIGTERM's default would leave containers
    # running.
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    # Once: what was sent to the whole group comes again by way of the reaper, in the midst of the teardown.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt("SIGTERM")


def _reap_until_end_of(child: int) -> None:
    # The terminal sends Ctrl-C to both of us; what to do about it is pytest's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _frame: os.kill(child, number))
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            break
    _bury_the_rest()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _bury_the_rest(seconds: float = 10.0) -> None:
    """Kills our remaining children until there are none: each one's own children then come to us."""
    named: set[int] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for pid in _children():
            if pid not in named:
                named.add(pid)
                print(f"tests: left over, killed: {pid} {_cmdline(pid)}", file=sys.stderr, flush=True)
            # Ours and not reaped yet, so the number cannot have gone to somebody else.
            os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    return [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "?"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}): {os.strerror(errno)}")
