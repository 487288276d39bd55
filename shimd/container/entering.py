"""One more process in a running container (exec): born by the shim, joins what init lives in, then as init does.

The shim sets once what its children are born into (setns(2): the pid and time namespaces), so that one fork is
enough. From clone3 to exec the child is not dumpable: nothing inside may ptrace it or read
its memory while it still holds the machine's view (CVE-2016-9962, 2019-5736).
"""

from __future__ import annotations

import errno
import os
from _socket import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

from shimd.container import identity, scheduling
from shimd.container.launch import Born, fail, perform, restore_signals, take_stdio
from shimd.container.making import Anchors, Making, Operation
from shimd.container.plan import Plan
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import cgroups, processes
from shimd.spec.config import Process
from shimd.wire import channel
from shimd.wire.messages import Ready

Dress = Callable[[Sequence[Operation]], Sequence[Operation]]


def adopt_children_into(plan: Plan, init: int) -> None:
    """The calling shim's children are born in init's pid and time namespaces from now on. ESRCH: init ended."""
    if plan.child_kinds:
        processes.setns(init, plan.child_kinds)


def enter(
    plan: Plan,
    cgroup: str,
    init: int,
    process: Process,
    stdio: Sequence[int],
    name: str,
    making: Making | None = None,
    dress: Dress = tuple,
) -> Born:
    """Start `process` in the container whose init is the pidfd `init`. RuntimeTrouble if it cannot be born.

    `dress` may change the steps between joining and exec; `making` brings what the steps that it adds need.
    """
    making = making or Making(name, Anchors("", "", ""), [], cgroup, "", [], {})
    ours, theirs = channel.pair()
    try:
        try:
            _hold_cgroups(plan, making, process)
            pid, pidfd = _born(plan, making, init)
        except OSError as error:
            ours.close()
            cause = "the container ended" if error.errno in (2, 3, 12) else (error.strerror or "").lower()
            raise RuntimeTrouble(Trouble("exec in", name[:12], cause, errno=error.errno or 0)) from error
        if pid == 0:
            _run(plan, making, init, process, stdio, theirs, dress)
    finally:
        theirs.close()
        making.close()
    return Born(pid, pidfd, ours)


def _hold_cgroups(plan: Plan, making: Making, process: Process) -> None:
    """Who has CPUs to be on before its cgroup is not born into it, but enters on its own."""
    for hierarchy in plan.hierarchies:
        directory = hierarchy.mount + making.cgroup + making.cgroups_below.get(hierarchy.mount, "")
        if hierarchy.version == 2 and _initial_cpus(process):
            making.task_fds.append(os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
        elif hierarchy.version == 2:
            making.cgroup_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            making.task_fds.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))


def _born(plan: Plan, making: Making, init: int) -> tuple[int, int]:
    """clone3 into the container's cgroup, on v2; if that takes no process, into the one that init is in.

    A container that runs a manager of its own (systemd, a nested engine) moves its init into a cgroup below its own and
    has that hand on controllers. From then on it holds no process (the no-internal-process rule): EBUSY, or
    EOPNOTSUPP if it was made threaded. runc goes to init's cgroup as well (libcontainer/process_linux.go). init's word
    is taken for a cgroup below the container's, and no other.
    """
    try:
        return processes.clone3(0, making.cgroup_fd)
    except OSError as error:
        if making.cgroup_fd < 0 or error.errno not in (errno.EBUSY, errno.EOPNOTSUPP):
            raise
        below = cgroups.own_path(processes.pid_of(init))
        if not below.startswith(f"{making.cgroup}/") or ".." in below.split("/"):
            raise
    os.close(making.cgroup_fd)
    making.cgroup_fd = -1
    directory = plan.hierarchies[0].mount + below
    making.cgroup_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return processes.clone3(0, making.cgroup_fd)


def _initial_cpus(process: Process) -> str:
    return process.exec_cpu_affinity.initial if process.exec_cpu_affinity is not None else ""


# From here on it is the child that runs: nothing is imported, no codec is looked up, and no exception leaves.


def _root_of(init: int) -> int:
    """An fd on init's root directory. ESRCH: it ended, and the pid may be another's."""
    directory = os.open(f"/proc/{processes.pid_of(init)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    processes.pidfd_send_signal(init, 0)
    return directory


def _run(
    plan: Plan,
    making: Making,
    init: int,
    process: Process,
    stdio: Sequence[int],
    sync: socket,
    dress: Dress,
) -> NoReturn:
    try:
        os.setsid()
        processes.prctl(processes.PR_SET_DUMPABLE, 0)
        take_stdio(stdio)
        _enter_cgroups(process, making)
        perform((*plan.filter.early, *identity.early_steps(process)), making)
        directory = _root_of(init) if plan.chroot else -1
        if plan.kinds:
            processes.setns(init, plan.kinds)
        if directory >= 0:
            os.fchdir(directory)
            os.chroot(".")
        os.chdir("/")
        restore_signals()
        late = identity.late_steps(process, plan.possible, plan.common)
        *steps, last = plan.filter.placed(late, process.no_new_privileges)
        perform(dress((identity.JoinKeyring(), *steps)), making)
        channel.send(sync, Ready([]))
        perform((last,), making)
        raise AssertionError("exec returned")
    except BaseException as error:  # noqa: BLE001 # nothing may leave the child
        if isinstance(error, OSError):
            error = RuntimeTrouble(Trouble("enter", "the container", (error.strerror or "").lower()))
        fail(sync, error)


def _enter_cgroups(process: Process, making: Making) -> None:
    """With the CPUs of execCPUAffinity, before and in the cgroup."""
    if initial := _initial_cpus(process):
        perform((scheduling.SetAffinity(initial),), making)
    for fd in making.task_fds:
        os.write(fd, b"0")
    if process.exec_cpu_affinity is not None and process.exec_cpu_affinity.final:
        perform((scheduling.SetAffinity(process.exec_cpu_affinity.final),), making)
