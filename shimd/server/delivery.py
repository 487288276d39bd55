"""How a shim brings its container into the world: from the Spawn to a running init, or everything undone.

The path socket is bound before anything is started, and nothing is started once the supervisor is dead. So whoever
finds the socket and can connect has found a shim, and a new supervisor that finds none knows that there will be none.

What is here is the reference, step by step. A container whose plan has a script is started by it (shimd.container.
starting), and hardly any of the shim's memory is touched; what has none, and what a script refused, comes here. Init is
then the midwife's: a child that dirties memory of its own.
"""

from __future__ import annotations

import os
import select
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from typing import NamedTuple

from shimd.container.making import Anchors, Making
from shimd.container.plan import Plan
from shimd.container.scripting import BACKLOG
from shimd.container.starting import Birth
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import processes
from shimd.server import midwife, record
from shimd.spec.config import OCI_VERSION
from shimd.wire import channel
from shimd.wire.codec import encode
from shimd.wire.messages import Attach, ExitRecord, Failed, Spawn, Started

NULL = 0  # the shim's own stdin, which is the null device


def deliver(spawn: Spawn, fds: list[int], path: str, plan: Plan, anchors: Anchors) -> Birth | None:
    """What runs now, or None: then everything is undone again and the reason told. `path` is the path socket's."""
    trees = dict(zip(spawn.trees, fds[1:], strict=True))
    making = Making(spawn.id, anchors, spawn.root, spawn.cgroup, spawn.hostname, spawn.env, trees)
    making.timeline.append(("queue", spawn.sent_ns))
    making.stamp("zygote")
    making.state = {
        "ociVersion": OCI_VERSION,
        "id": spawn.id,
        "status": "creating",
        "bundle": spawn.directory,
        "annotations": dict(plan.annotations),
    }
    birth = Delivery(spawn, fds[0], path, plan, making).deliver()
    if birth is not None:
        try:
            os.write(fds[0], encode(Started(birth.pid, os.getpid(), birth.started_ns, birth.timeline)))
        except OSError:
            return birth  # the supervisor died just now: the next one asks
    return birth


class Stdio(NamedTuple):
    """`theirs` are init's 0, 1 and 2; the rest is the shim's, -1 for what there is not."""

    theirs: tuple[int, ...]
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


class Delivery:
    """One Spawn, step by step, by the reference executor."""

    def __init__(self, spawn: Spawn, line: int, path: str, plan: Plan, making: Making) -> None:
        self.spawn = spawn
        self.line = line
        self.path = path
        self.plan = plan
        self.making = making

    def deliver(self) -> Birth | None:
        """What runs now, or None: then everything is undone again and the reason told."""
        try:
            listener = listen(self.path, self.spawn.id)
        except RuntimeTrouble as error:  # the path socket is taken: nothing was done, and the directory is another's
            self._tell(error.trouble)
            return None
        try:
            if self._alone():
                raise RuntimeTrouble(Trouble("start", self.spawn.id[:12], "the supervisor is gone"))
            return self._born(listener)
        except RuntimeTrouble as error:
            # Before the supervisor hears it, which may try again at once. One that dies now and comes back finds
            # neither socket nor reason for as long as the next two lines take.
            os.unlink(self.path)
            if not self._tell(error.trouble):
                reason = ExitRecord(error.trouble.code, ended_ns=time.time_ns(), failed=str(error.trouble))
                record.write(self.spawn.directory, reason)
            return None

    def _tell(self, trouble: Trouble) -> bool:
        try:
            os.write(self.line, encode(Failed(trouble, [])))
        except OSError:
            return False  # the supervisor died just now
        return True

    def _born(self, listener: socket) -> Birth:
        try:
            stdio = self._stdio()
        except OSError as error:
            raise RuntimeTrouble(from_oserror("make", "stdio pipes", error)) from error
        born, master = midwife.call(self.plan, self.making, stdio.theirs, self.line)
        processes.set_name(f"shim:{self.spawn.id[:10]}")
        self.making.close()
        for fd in stdio.theirs:
            if fd:
                os.close(fd)
        if master >= 0:
            stdio = Stdio((), os.dup(master) if self.plan.stdin else -1, master, -1)
        for fd in (self.line, listener.fileno(), stdio.stdin, stdio.stdout, stdio.stderr):
            if fd >= 0:
                os.set_blocking(fd, False)
        started_ns = time.time_ns()
        return Birth(
            born.pid, born.pidfd, listener.detach(), stdio.stdin, stdio.stdout, stdio.stderr, started_ns, born.timeline
        )

    def _stdio(self) -> Stdio:
        """What init gets as 0, 1 and 2, and what we keep of it. A terminal is made inside."""
        if self.plan.terminal:
            return Stdio((NULL, NULL, NULL))
        if self.plan.log.form == "none":
            return Stdio(self._callers())
        stdin, keep = os.pipe2(os.O_CLOEXEC) if self.plan.stdin else (NULL, -1)
        stdout, theirs = os.pipe2(os.O_CLOEXEC)
        stderr, theirs_too = os.pipe2(os.O_CLOEXEC)
        return Stdio((stdin, theirs, theirs_too), keep, stdout, stderr)

    def _callers(self) -> tuple[int, int, int]:
        """The stdio of who asked for the start: it came ahead of the Spawn, or nobody wanted any."""
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        fds: list[int] = []
        if poll.poll(0):
            line = channel.from_fd(os.dup(self.line))
            received = channel.receive(line)
            line.close()
            if received is not None:
                message, fds = received
                if isinstance(message, Attach) and len(fds) == 2 + message.stdin:
                    return (fds.pop(0) if message.stdin else NULL, *fds)  # type: ignore[return-value]
        channel.close_all(fds)
        return NULL, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def _alone(self) -> bool:
        """Has the supervisor closed its end? By poll: an Attach sent ahead would hide the EOF from recv."""
        poll = select.poll()
        poll.register(self.line, 0)  # POLLHUP is told unasked
        return bool(poll.poll(0))


def socket_path(shims: int, id: str) -> str:
    """The path socket's address by way of the directory's fd: any depth of path fits into sun_path's 108 bytes."""
    return f"/proc/self/fd/{shims}/{id}.sock"


def listen(path: str, id: str) -> socket:
    """The shim's path socket. EADDRINUSE: a container of this id has a shim already."""
    listener = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        raise RuntimeTrouble(from_oserror("bind socket of shim", id[:12], error)) from error
    return listener
