"""The executor: the shim's steps, the birth of init, init's steps up to exec.

    midwife (or a runtime's command)      init
      | prepare(): outside steps
      | bear(): clone3 ------------------> |
      | write uid_map, Go  (user ns only)  | birth steps
      |                                    | rooting steps
      |                                    | process steps
      | <-------- Ready(timeline) -------- |
      | <-------- EOF (close-on-exec) ---- | exec: the user's program runs
      | <-------- Refused(trouble) ------- | or: a step failed, init is gone

The sync socket tells the three ends apart: Ready then EOF (it runs), Refused, and EOF alone (init was killed).
"""

from __future__ import annotations

import os
import select
import stat
from _socket import socket
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from shimd.container import namespaces
from shimd.container.making import Making, Operation, OutsideOperation
from shimd.container.plan import Plan
from shimd.errors import RUNTIME_FAILED, RuntimeTrouble, Trouble
from shimd.linux import processes, signals
from shimd.wire import channel
from shimd.wire.messages import Go, Ready, Refused

SIGPIPE, SIGXFSZ = 13, 25  # Python ignores both from its first moment on


SET_UP_SECONDS = 60.0  # from clone3 to exec; a mount that hangs (a dead network file system) ends here
DEATH_SECONDS = 5.0  # for a killed init to end


class Born(NamedTuple):
    """A process that is on its way to exec; the caller owns the fds."""

    pid: int
    pidfd: int
    sync: socket


class Running(NamedTuple):
    """A process that runs the user's program, and the times of its phases up to there."""

    pid: int
    pidfd: int
    timeline: list[tuple[str, int]]


def perform(steps: Sequence[Operation], making: Making) -> None:
    """Do steps in order; the first failure becomes a RuntimeTrouble that names the step."""
    for step in steps:
        try:
            step.execute(making)
        except OSError as error:
            deed, subject = step.describe()
            cause = (error.strerror or str(error)).lower()
            raise RuntimeTrouble(Trouble(deed, subject, cause, errno=error.errno or 0)) from error


def prepare(plan: Plan, making: Making) -> None:
    """The outside steps; on a failure those that were done are undone, and the trouble says what was left.

    A step that failed is not undone: it cleans up after itself, and what it met (a cgroup of that name) is not ours.
    """
    done: list[OutsideOperation] = []
    try:
        for step in plan.outside:
            perform((step,), making)
            done.append(step)
    except RuntimeTrouble as error:
        left = undo(done, making)
        if left:
            trouble = error.trouble
            raise RuntimeTrouble(trouble._replace(cause=f"{trouble.cause}; left behind: {', '.join(left)}")) from None
        raise


def undo(steps: Sequence[OutsideOperation], making: Making) -> list[str]:
    """Take steps back, last first; what refused is named, and the others are still taken back."""
    left: list[str] = []
    for step in reversed(steps):
        try:
            step.undo(making)
        except OSError as error:
            left.append(f"{' '.join(step.describe())} ({error.strerror})")
    return left


def bear(plan: Plan, making: Making, stdio: Sequence[int], flags: int = 0) -> Born:
    """clone3 init into its namespaces; `flags` may add CLONE_PARENT.

    RuntimeTrouble if the kernel refuses; the caller undoes the outside steps.
    """
    ours, theirs = channel.pair()
    try:
        pid, pidfd = namespaces.clone(plan.clone_flags | flags, making)
    except OSError as error:
        ours.close()
        theirs.close()
        raise RuntimeTrouble(
            Trouble("clone", f"init of {making.id[:12]}", (error.strerror or "").lower(), errno=error.errno or 0)
        ) from error
    if pid == 0:
        channel.close_all((ours.detach(), *making.parents_fds))  # or their end would not be noticed here
        _run_init(plan, making, stdio, theirs)
    theirs.close()
    born = Born(pid, pidfd, ours)
    if plan.kinds & processes.CLONE_NEWUSER:
        _map_ids(plan, born, stdio)
    return born


def too_slow(id: str) -> RuntimeTrouble:
    return RuntimeTrouble(Trouble("set up", id[:12], f"it took longer than {SET_UP_SECONDS:.0f} s"))


def killed(id: str) -> RuntimeTrouble:
    return RuntimeTrouble(Trouble("set up", id[:12], "init was killed while it was set up", code=128 + 9))


def bury(pidfd: int) -> None:
    """Kill init and wait until it is dead, so that its cgroups can go; its parent reaps it."""
    try:
        processes.pidfd_send_signal(pidfd, 9)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(DEATH_SECONDS * 1000)


def _map_ids(plan: Plan, born: Born, stdio: Sequence[int]) -> None:
    """Init waits for this in a user namespace of its own; and in any, since its stdio has to become its own."""
    try:
        for name, text in (("uid_map", plan.uid_map), ("gid_map", plan.gid_map)):
            if text:
                processes.write_map(born.pid, name, text)
        root = processes.root_of(born.pid)
        for fd in stdio:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.fchown(fd, *root)
        channel.send(born.sync, Go())
    except OSError as error:
        processes.pidfd_send_signal(born.pidfd, 9)
        raise RuntimeTrouble(
            Trouble("write", f"id maps of {born.pid}", (error.strerror or "").lower(), errno=error.errno or 0)
        ) from error


def take_stdio(stdio: Sequence[int]) -> None:
    """Make the three fds 0, 1 and 2, and everything else close-on-exec (CVE-2024-21626)."""
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
    processes.close_range(3, flags=processes.CLOSE_RANGE_CLOEXEC)


def restore_signals() -> None:
    """A program expects an empty mask and no ignored signals: Python ignores two, the shim blocks SIGCHLD."""
    signals.default(SIGPIPE)
    signals.default(SIGXFSZ)
    signals.unblock_all()


def fail(sync: socket, error: BaseException) -> NoReturn:
    """Tell the shim why and end. Never returns: nothing of the shim may run in its child."""
    if isinstance(error, RuntimeTrouble):
        trouble = error.trouble
    else:
        trouble = Trouble("set up", "the container", f"{type(error).__name__}: {error}", "this is a bug in asyncrt")
    try:
        channel.send(sync, Refused(trouble))
    finally:
        os._exit(trouble.code or RUNTIME_FAILED)


# From here on it is the child that runs: nothing is imported, no codec is looked up, and no exception leaves.


def _run_init(plan: Plan, making: Making, stdio: Sequence[int], sync: socket) -> NoReturn:
    try:
        os.setsid()
        os.umask(0)
        making.clock_shift = making.init_clock_shift
        making.sync = sync
        processes.prctl(processes.PR_SET_DUMPABLE, 0)
        take_stdio(stdio)
        if plan.kinds & processes.CLONE_NEWUSER and channel.receive(sync) is None:
            os._exit(RUNTIME_FAILED)
        perform(plan.birth, making)
        making.stamp("namespaces")
        perform(plan.rooting, making)
        making.stamp("mounts")
        restore_signals()
        *steps, last = plan.process
        perform(steps, making)
        channel.send(sync, Ready(making.timeline))
        perform((last,), making)
        raise AssertionError("exec returned")
    except BaseException as error:  # noqa: BLE001 # nothing may leave the child
        fail(sync, error)
