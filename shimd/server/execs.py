"""Further processes of the container (exec): started by the shim, reaped by it, each with its own record."""

from __future__ import annotations

import os
import select
import time
from typing import Any

from shimd.container import entering
from shimd.container.launch import Born
from shimd.container.plan import Plan
from shimd.errors import NOT_FOUND, RuntimeTrouble, Trouble
from shimd.linux import processes
from shimd.server import record
from shimd.server.loop import Loop
from shimd.server.peer import Peer
from shimd.spec.errors import SpecError
from shimd.spec.validate import load_process
from shimd.wire import channel
from shimd.wire.messages import ExecEnded, ExecFailed, ExecStarted, Ready, Refused


class Execution:
    """One exec from birth to end."""

    __slots__ = ("born", "id", "ready", "started_ns", "trouble")

    def __init__(self, id: str, born: Born) -> None:
        self.id = id
        self.born = born
        self.ready = False
        self.trouble: Trouble | None = None
        self.started_ns = 0


class Executions:
    """The living execs, by pid."""

    __slots__ = ("adopting", "by_pid", "cgroup", "loop", "peer", "plan")

    def __init__(self, loop: Loop, peer: Peer, plan: Plan, cgroup: str) -> None:
        self.loop = loop
        self.peer = peer
        self.plan = plan
        self.cgroup = cgroup
        self.adopting = False
        self.by_pid: dict[int, Execution] = {}

    def start(self, id: str, document: dict[str, Any], init: int, stdio: list[int]) -> None:
        """Begin an exec; its outcome goes to the peer. The stdio fds are closed here."""
        try:
            if len(stdio) != 3:
                raise RuntimeTrouble(Trouble("exec", id[:12], f"3 fds are needed, {len(stdio)} came"))
            process = load_process(document)
            if not self.adopting:
                try:
                    entering.adopt_children_into(self.plan, init)
                except OSError as error:
                    trouble = Trouble("exec", document["args"][0], "the container ended", errno=error.errno or 0)
                    raise RuntimeTrouble(trouble) from error
                self.adopting = True
            born = entering.enter(self.plan, self.cgroup, init, process, stdio, id)
        except SpecError as error:
            self.peer.send(ExecFailed(id, Trouble("exec", id[:12], str(error))))
            return
        except RuntimeTrouble as error:
            self.peer.send(ExecFailed(id, error.trouble))
            return
        finally:
            channel.close_all(stdio)
        execution = Execution(id, born)
        self.by_pid[born.pid] = execution
        self.loop.watch(born.sync.fileno(), select.POLLIN, lambda events: self._heard(execution))

    def _heard(self, execution: Execution) -> None:
        received = channel.receive(execution.born.sync)
        if received is not None:
            message, _ = received
            if isinstance(message, Ready):
                execution.ready = True
            elif isinstance(message, Refused):
                execution.trouble = message.trouble
            return
        self.loop.unwatch(execution.born.sync.fileno())
        execution.born.sync.close()
        if execution.ready and execution.trouble is None:
            execution.started_ns = time.time_ns()
            self.peer.send(ExecStarted(execution.id, execution.born.pid))

    def reaped(self, pid: int, status: int, cpu_seconds: float) -> bool:
        """A child ended; was it one of ours?"""
        execution = self.by_pid.pop(pid, None)
        if execution is None:
            return False
        while execution.born.sync.fileno() >= 0:  # the end of its set-up may still wait in the socket
            self._heard(execution)
        os.close(execution.born.pidfd)
        if execution.started_ns:
            ended = record.of_status(status, cpu_seconds, execution.started_ns)
            self.peer.send(ExecEnded(execution.id, ended))
        else:
            gone = Trouble("exec", execution.id[:12], "it was killed while it was set up", code=128 + 9)
            self.peer.send(ExecFailed(execution.id, execution.trouble or gone))
        return True

    def kill(self, id: str, signal: int) -> None:
        """RuntimeTrouble if there is no such exec."""
        for execution in self.by_pid.values():
            if execution.id == id:
                processes.pidfd_send_signal(execution.born.pidfd, signal)
                return
        raise RuntimeTrouble(Trouble("kill exec", id[:12], "it is not running", code=NOT_FOUND))

    def ids(self) -> list[str]:
        return [execution.id for execution in self.by_pid.values()]
