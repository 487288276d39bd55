"""Further processes of the container (exec): started by the shim, reaped by it, each with its own record."""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, socket, socketpair
from collections.abc import Sequence
from typing import Any

from shimd.container import entering
from shimd.container.console import TakeConsole, peer, receive_master, resize
from shimd.container.entrance import Doorway, Entrance
from shimd.container.making import Anchors, Making
from shimd.container.plan import Plan
from shimd.errors import NOT_FOUND, RuntimeTrouble, Trouble, from_oserror
from shimd.linux import processes
from shimd.server import record
from shimd.server.delivery import NULL
from shimd.server.loop import Loop
from shimd.server.peer import Peer
from shimd.spec.config import Process
from shimd.spec.errors import SpecError
from shimd.spec.validate import load_process
from shimd.wire import channel
from shimd.wire.messages import ExecEnded, ExecFailed, ExecStarted, Ready, Refused

SHOWN = 64 * 1024  # bytes of a read
REMEMBERED = 256  # ends of execs, for a supervisor that comes later


class Execution:
    """One exec from birth to end. `console` brings the master of its terminal, if it has one.

    `sync` tells of its set-up; None once that is over.
    """

    __slots__ = ("console", "id", "kept", "pid", "pidfd", "ready", "slave", "started_ns", "sync", "trouble")

    def __init__(
        self, id: str, pid: int, pidfd: int, sync: socket | None = None, console: socket | None = None
    ) -> None:
        self.id = id
        self.pid = pid
        self.pidfd = pidfd
        self.sync = sync
        self.console = console
        self.slave = -1
        """Of its terminal, to resize it: the one master is the client's, so that its death hangs up."""
        self.kept = -1
        """The master, once its client has left it to us."""
        self.ready = False
        self.trouble: Trouble | None = None
        self.started_ns = 0


class Executions:
    """The living execs, by pid."""

    __slots__ = ("adopting", "by_pid", "cgroup", "doorway", "ended", "entrance", "loop", "peer", "plan")

    def __init__(self, loop: Loop, peer: Peer, plan: Plan, entrance: Entrance | None, cgroup: str) -> None:
        self.loop = loop
        self.peer = peer
        self.plan = plan
        self.cgroup = cgroup
        self.entrance = entrance
        self.doorway: Doorway | None = None
        self.adopting = False
        self.by_pid: dict[int, Execution] = {}
        self.ended: list[ExecEnded] = []

    def start(self, id: str, document: dict[str, Any], init: int, stdio: list[int]) -> None:
        """Begin an exec; its outcome goes to the peer. The stdio fds are closed here."""
        try:
            process = load_process(document)
            wanted = 0 if process.terminal else 3
            if len(stdio) != wanted:
                raise RuntimeTrouble(Trouble("exec", id[:12], f"{wanted} fds are needed, {len(stdio)} came"))
            if not self.adopting:
                try:
                    entering.adopt_children_into(self.plan, init)
                except OSError as error:
                    trouble = Trouble("exec", document["args"][0], "the container ended", errno=error.errno or 0)
                    raise RuntimeTrouble(trouble) from error
                self.adopting = True
            execution = self._enter(id, process, init, stdio)
        except SpecError as error:
            self.peer.send(ExecFailed(id, Trouble("exec", id[:12], str(error))))
            return
        except RuntimeTrouble as error:
            self.peer.send(ExecFailed(id, error.trouble))
            return
        except OSError as error:  # EMFILE, ENOMEM: an exec's trouble, and not the container's
            self.peer.send(ExecFailed(id, from_oserror("exec", id[:12], error)))
            return
        finally:
            channel.close_all(stdio)
        self.by_pid[execution.pid] = execution
        if execution.sync is not None:
            self.loop.watch(execution.sync.fileno(), select.POLLIN, lambda events: self._heard(execution))
        else:
            self._runs(execution)

    def _enter(self, id: str, process: Process, init: int, stdio: list[int]) -> Execution:
        if not process.terminal:
            if self.doorway is None and self.entrance is not None:
                self.doorway = Doorway(self.entrance, self.plan, self.cgroup)
            scripted = self.doorway.enter(init, process, stdio, id) if self.doorway is not None else None
            born = scripted or entering.enter(self.plan, self.cgroup, init, process, stdio, id)
            return Execution(id, *born)
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        try:
            making = Making(id, Anchors("", "", ""), [], self.cgroup, "", [], {})
            making.console_fd = theirs.fileno()
            take = TakeConsole(process.user.uid, process.console_size, bound=False)
            nulls = (NULL, NULL, NULL)
            born = entering.enter(
                self.plan, self.cgroup, init, process, nulls, id, making, lambda steps: (take, *steps)
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Execution(id, *born, ours)

    def _runs(self, execution: Execution, master: Sequence[int] = ()) -> None:
        execution.started_ns = time.time_ns()
        self.peer.send(ExecStarted(execution.id, execution.pid), master)

    def _heard(self, execution: Execution) -> None:
        assert execution.sync is not None
        received = channel.receive(execution.sync)
        if received is not None:
            message, _ = received
            if isinstance(message, Ready):
                execution.ready = True
            elif isinstance(message, Refused):
                execution.trouble = message.trouble
            return
        self.loop.unwatch(execution.sync.fileno())
        execution.sync.close()
        execution.sync = None
        master = self._take_master(execution)
        if execution.ready and execution.trouble is None:
            self._runs(execution, master)
        else:
            channel.close_all(master)

    def _take_master(self, execution: Execution) -> list[int]:
        """The master of its terminal, if it has one and came so far; we keep a slave."""
        if execution.console is None:
            return []
        try:
            master = receive_master(execution.console)
        except OSError:
            return []  # it failed before it had one
        finally:
            execution.console.close()
        try:
            execution.slave = peer(master)
        except OSError as error:  # EMFILE: then nobody resizes it but its holder
            print(f"keep the terminal of exec {execution.id[:12]}: {error.strerror}", file=sys.stderr, flush=True)
        return [master]

    def reaped(self, pid: int, status: int, cpu_seconds: float) -> bool:
        """A child ended; was it one of ours?"""
        execution = self.by_pid.pop(pid, None)
        if execution is None:
            return False
        while execution.sync is not None:  # the end of its set-up may still wait in the socket
            self._heard(execution)
        os.close(execution.pidfd)
        self._let_go(execution)
        if execution.slave >= 0:
            os.close(execution.slave)
        if execution.started_ns:
            ended = ExecEnded(execution.id, record.of_status(status, cpu_seconds, execution.started_ns))
            self.ended.append(ended)
            del self.ended[:-REMEMBERED]
            self.peer.send(ended)
        else:
            gone = Trouble("exec", execution.id[:12], "it was killed while it was set up", code=128 + 9)
            self.peer.send(ExecFailed(execution.id, execution.trouble or gone))
        return True

    def tell_again(self) -> None:
        """How the last ones ended, to a supervisor that has just come."""
        for ended in self.ended:
            self.peer.send(ended)

    def kill(self, id: str, signal: int) -> None:
        """RuntimeTrouble if there is no such exec."""
        processes.pidfd_send_signal(self._find(id, "kill exec").pidfd, signal)

    def resize(self, id: str, rows: int, columns: int) -> None:
        """RuntimeTrouble if there is no such exec, or no terminal."""
        execution = self._find(id, "resize exec")
        if execution.slave < 0:
            raise RuntimeTrouble(Trouble("resize exec", id[:12], "it has no terminal", "exec it with -t"))
        resize(execution.slave, rows, columns)

    def keep(self, id: str, fds: list[int]) -> None:
        """Hold the master of its terminal until it ends, so that it is not hung up. RuntimeTrouble as resize()."""
        execution = self._find(id, "keep terminal of exec")
        if execution.slave < 0 or len(fds) != 1:
            raise RuntimeTrouble(Trouble("keep terminal of exec", id[:12], "it has no terminal"))
        self._let_go(execution)
        execution.kept = fds[0]
        os.set_blocking(execution.kept, False)
        self.loop.watch(execution.kept, select.POLLIN, lambda events: self._drop_shown(execution))

    def _drop_shown(self, execution: Execution) -> None:
        """Nobody sees it; a terminal that is full would stop its program."""
        try:
            os.read(execution.kept, SHOWN)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has it open
            self._let_go(execution)

    def _let_go(self, execution: Execution) -> None:
        if execution.kept >= 0:
            self.loop.unwatch(execution.kept)
            os.close(execution.kept)
            execution.kept = -1

    def _find(self, id: str, deed: str) -> Execution:
        for execution in self.by_pid.values():
            if execution.id == id:
                return execution
        raise RuntimeTrouble(Trouble(deed, id[:12], "it is not running", code=NOT_FOUND))

    def ids(self) -> list[str]:
        return [execution.id for execution in self.by_pid.values()]
