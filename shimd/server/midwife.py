"""The midwife: a short-lived child of the shim that brings one container into the world.

It takes the Spawn, binds the path socket, does the outside steps, clones init as its own sibling (CLONE_PARENT), so
that init is the shim's child, and stays until init runs the user's program. All the memory that this work dirties is
gone with it; the shim, which lives as long as the container, has touched next to nothing
(docs/decisions/0002-midwife.md has the figures).

The path socket is bound before anything is started, and nothing is started once the supervisor is dead. So whoever
finds the socket and can connect has found a shim, and a new supervisor that finds none knows that there will be none.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from collections.abc import Mapping
from typing import NoReturn

from shimd.container import launch
from shimd.container.making import Anchors, Making
from shimd.container.plan import Plan
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import processes
from shimd.server import record
from shimd.wire import channel
from shimd.wire.messages import Delivered, ExitRecord, Failed, Ready, Refused, Spawn, Started

LISTEN_BACKLOG = 4
SET_UP_SECONDS = 60.0  # from clone3 to exec; a mount that hangs (a dead network file system) ends here
DEATH_SECONDS = 5.0  # for a killed init to end


class Midwife:
    """One Spawn. `shims` is the directory of the path sockets."""

    def __init__(self, spawn: Spawn, fds: list[int], shims: int, plan: Plan, anchors: Anchors) -> None:
        self.spawn = spawn
        self.supervisor = channel.from_fd(fds[0])
        self.plan = plan
        trees = dict(zip(spawn.trees, fds[1:], strict=True))
        self.making = Making(spawn.id, anchors, spawn.root, spawn.cgroup, spawn.hostname, spawn.env, trees)
        self.making.timeline.append(("queue", spawn.sent_ns))
        self.making.stamp("zygote")
        self.path = socket_path(shims, spawn.id)
        self.told = False
        """Does the supervisor know that it runs? Then no Failed may follow: the end of the line says it."""

    def deliver(self, handover: socket) -> None:
        """From the Spawn to a running container, or everything undone again and the reason told.

        RuntimeTrouble if the path socket is taken: then nothing was done, and the directory is another's.
        """
        listener = listen(self.path, self.spawn.id)
        try:
            if self._alone():
                raise RuntimeTrouble(Trouble("start", self.spawn.id[:12], "the supervisor is gone"))
            launch.prepare(self.plan, self.making)
            self.making.stamp("cgroup")
            try:
                self._bear(listener, handover)
            except RuntimeTrouble as error:
                left = launch.undo(self.plan.outside, self.making)
                if left:
                    cause = f"{error.trouble.cause}; left behind: {', '.join(left)}"
                    raise RuntimeTrouble(error.trouble._replace(cause=cause)) from None
                raise
        except RuntimeTrouble as error:
            if not self.told:
                self._explain(error.trouble)
            os.unlink(self.path)  # last: a new supervisor that finds no socket must find the reason

    def _explain(self, trouble: Trouble) -> None:
        """Tell the supervisor, or leave the reason on disk for the next one."""
        try:
            channel.send(self.supervisor, Failed(trouble, []))
        except OSError:
            reason = ExitRecord(trouble.code, ended_ns=time.time_ns(), failed=str(trouble))
            record.write(self.spawn.directory, reason)

    def _bear(self, listener: socket, handover: socket) -> None:
        try:
            stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC) if self.plan.stdin else (0, -1)
            stdout, stderr = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise RuntimeTrouble(from_oserror("make", "stdio pipes", error)) from error
        stdio = (stdin_read, stdout[1], stderr[1])
        born = launch.bear(self.plan, self.making, stdio, processes.CLONE_PARENT)
        try:
            timeline = await_exec(born, self.spawn.id)
            timeline.append(("exec", time.monotonic_ns() - self.making.clock_shift))
            fds = [self.supervisor.fileno(), listener.fileno(), born.pidfd, stdout[0], stderr[0]]
            if stdin_write >= 0:
                fds.append(stdin_write)
            for fd in (*fds[:2], *fds[3:]):
                os.set_blocking(fd, False)
            self._tell(handover, born.pid, timeline, fds)
        except RuntimeTrouble:
            bury(born)
            raise

    def _tell(self, handover: socket, pid: int, timeline: list[tuple[str, int]], fds: list[int]) -> None:
        """The supervisor first: its user waits. What it does next waits in the socket for the shim."""
        spawn = self.spawn
        started_ns = time.time_ns()
        try:
            channel.send(self.supervisor, Started(pid, os.getppid(), started_ns, timeline))
        except OSError:
            pass  # it died just now: the next one asks the shim
        self.told = True
        told = Delivered(spawn.id, spawn.template, pid, spawn.cgroup, spawn.directory, started_ns, timeline)
        try:
            channel.send(handover, told, fds)
        except OSError as error:  # the shim was killed: then nobody would hold this container
            raise RuntimeTrouble(from_oserror("hand over", spawn.id[:12], error)) from error

    def _alone(self) -> bool:
        """Has the supervisor closed its end? By poll: an Attach sent ahead would hide the EOF from recv."""
        poll = select.poll()
        poll.register(self.supervisor.fileno(), 0)  # POLLHUP is told unasked
        return bool(poll.poll(0))


def await_exec(born: launch.Born, id: str) -> list[tuple[str, int]]:
    """Wait until init runs the user's program; its timeline. RuntimeTrouble if it says or shows that it will not."""
    deadline = time.monotonic() + SET_UP_SECONDS
    poll = select.poll()
    poll.register(born.sync.fileno(), select.POLLIN)
    ready: Ready | None = None
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise RuntimeTrouble(Trouble("set up", id[:12], f"it took longer than {SET_UP_SECONDS:.0f} s"))
        received = channel.receive(born.sync)
        if received is None:
            break
        message, _ = received
        if isinstance(message, Refused):
            raise RuntimeTrouble(message.trouble)
        if isinstance(message, Ready):
            ready = message
    if ready is None:
        raise RuntimeTrouble(Trouble("set up", id[:12], "init was killed while it was set up", code=128 + 9))
    return ready.timeline


def bury(born: launch.Born) -> None:
    """Kill init and wait until it is dead, so that its cgroups can go; the shim reaps it."""
    try:
        processes.pidfd_send_signal(born.pidfd, 9)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(born.pidfd, select.POLLIN)
    poll.poll(DEATH_SECONDS * 1000)


def socket_path(shims: int, id: str) -> str:
    """The path socket's address by way of the directory's fd: any depth of path fits into sun_path's 108 bytes."""
    return f"/proc/self/fd/{shims}/{id}.sock"


def listen(path: str, id: str) -> socket:
    """The shim's path socket. EADDRINUSE: a container of this id has a shim already."""
    listener = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        listener.bind(path)
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        raise RuntimeTrouble(from_oserror("bind socket of shim", id[:12], error)) from error
    return listener


def main(spawns: socket, shims: int, plans: Mapping[str, Plan], anchors: Anchors, handover: socket) -> NoReturn:
    """The midwife's whole life; what it delivers goes to `handover`, what fails to the supervisor."""
    received = channel.receive(spawns)
    if received is None:
        os._exit(0)  # the supervisor is gone, and with it whatever it wanted
    spawn, fds = received
    assert isinstance(spawn, Spawn)
    try:
        plan = plans.get(spawn.template)
        if plan is None:
            # Whoever reads first gets a Spawn: this one is of a plan compiled after we were forked. It goes back, and
            # the supervisor sends it again, with a ticket for a younger midwife.
            channel.send(spawns, spawn, fds)
            os._exit(0)
        Midwife(spawn, fds, shims, plan, anchors).deliver(handover)
    except RuntimeTrouble as error:
        with contextlib.suppress(OSError):  # a supervisor that is gone knows that this one was never started
            channel.send(channel.from_fd(fds[0]), Failed(error.trouble, []))
    os._exit(0)
