"""The shim: one per container, its init's parent, holder of its stdio, log and exit status.

It brings its container into the world (delivery), and blocks in poll. When init ended and both streams
are drained, the record goes to disk and then to the supervisor, the cgroups go, and so does the shim. It needs no
supervisor for any of this. The walk: docs/walks/run.md.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from _socket import socket
from collections.abc import Callable, Mapping
from typing import NoReturn

from shimd.container import launch, lifecycle, updating
from shimd.container.entrance import Entrance
from shimd.container.making import Anchors, Making
from shimd.container.plan import Plan
from shimd.container.starting import HAPPENED, OVER, REFUSED, Birth, Starter
from shimd.errors import NOT_FOUND, RuntimeTrouble, Trouble, from_oserror
from shimd.linux import freezer, processes, signals
from shimd.server import record
from shimd.server.delivery import deliver, socket_path
from shimd.server.execs import Executions
from shimd.server.loop import Loop
from shimd.server.peer import Peer, close_unused
from shimd.server.stdio import Stdio
from shimd.spec.errors import SpecError
from shimd.spec.validate import load_resources
from shimd.wire import channel
from shimd.wire.messages import (
    VERSION,
    Attach,
    Attached,
    CloseStdin,
    Done,
    Ended,
    Exec,
    ExitRecord,
    KeepTerminal,
    Kill,
    Message,
    Query,
    Refusal,
    Release,
    Resize,
    Spawn,
    Standing,
    Update,
)

DRAIN_SECONDS = 3.0  # how long a pipe that something outside the container still holds may delay the exit record
RECORD_RETRY_SECONDS = 1.0


class Shim:
    """One container's shim, from the moment it runs."""

    __slots__ = (
        "announced",
        "cgroup",
        "children",
        "directory",
        "drain_over",
        "entrance",
        "execs",
        "id",
        "loop",
        "peer",
        "pid",
        "pidfd",
        "plan",
        "record",
        "recorded",
        "released",
        "socket_path",
        "started_ns",
        "state",
        "stdio",
        "timeline",
    )

    def __init__(
        self, plan: Plan, entrance: Entrance | None, spawn: Spawn, line: int, birth: Birth, socket_path: str
    ) -> None:
        self.plan = plan
        self.entrance = entrance
        self.id = spawn.id
        self.cgroup = spawn.cgroup
        self.directory = spawn.directory
        self.socket_path = socket_path
        self.timeline = birth.timeline
        self.pid = birth.pid
        self.pidfd = birth.pidfd
        self.loop = Loop()
        self.peer = Peer(self.loop, channel.from_fd(line), channel.from_fd(birth.listener), self.on_message)
        self.stdio = Stdio(self.loop, plan, birth, self.id, self.directory, self.maybe_finish)
        self.execs: Executions | None = None
        self.state = lifecycle.RUNNING
        self.started_ns = birth.started_ns
        self.record: ExitRecord | None = None
        self.recorded = False
        self.announced = False
        self.drain_over = False
        self.released = False

    def run(self, children: int) -> None:
        """The whole life; `children` is a signalfd for SIGCHLD."""
        self.children = children
        self.loop.watch(children, select.POLLIN, self.on_children)
        self.on_children(0)  # what ended before anybody watched
        self.loop.run()

    # the end

    def undo(self) -> list[str]:
        """Take the outside steps back; what is left, by name."""
        making = Making(self.id, Anchors("", "", ""), [], self.cgroup, "", [], {})
        return launch.undo(self.plan.outside, making)

    def on_children(self, events: int) -> None:
        """Reap whatever ended: init, execs, and orphans that came to this subreaper."""
        try:
            os.read(self.children, signals.SIGNALFD_RECORD)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status, spent = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            cpu_seconds = spent.ru_utime + spent.ru_stime
            if pid == self.pid:
                self.on_init_ended(status, cpu_seconds)
            elif self.execs is not None:
                self.execs.reaped(pid, status, cpu_seconds)
        self.maybe_finish()

    def on_init_ended(self, status: int, cpu_seconds: float) -> None:
        self.state = lifecycle.STOPPED
        self.record = record.of_status(status, cpu_seconds, self.started_ns)
        self.stdio.init_ended()
        if not self.plan.own_pids:
            record.kill_members(self.plan, self.cgroup)
        self.loop.at(DRAIN_SECONDS, self.stop_draining)

    def stop_draining(self) -> None:
        """Somebody outside holds a pipe of the container: its end is told without waiting longer.

        A full disk is no such thing: what the container wrote still lies in the pipe.
        """
        if self.stdio.stalled:
            self.loop.at(DRAIN_SECONDS, self.stop_draining)
            return
        self.stdio.cut()
        self.drain_over = True
        self.maybe_finish()

    def maybe_finish(self) -> None:
        """Once init ended, execs too, and the streams are at their ends: record, then announce, once."""
        if self.record is None or self.announced:
            return
        drained = self.stdio.drained and not (self.execs and self.execs.by_pid)
        if not drained and not self.drain_over and not self.released:
            return
        sizes = self.stdio.log.sizes
        full = record.with_usage(self.record, self.plan, self.cgroup)
        self.record = full._replace(stdout_bytes=sizes[1], stderr_bytes=sizes[2])
        self.announced = True
        left = self.undo()
        self.write_record()
        self.peer.send(Ended(self.record, left))
        self.leave()

    def write_record(self) -> None:
        """To disk, or, while the disk refuses, hold it here and try again: it is not lost while the shim lives."""
        assert self.record is not None
        try:
            record.write(self.directory, self.record)
            self.recorded = True
        except OSError as error:
            print(f"write exit record of {self.id[:12]}: {error}", file=sys.stderr, flush=True)
            self.loop.at(RECORD_RETRY_SECONDS, self.retry_record)

    def retry_record(self) -> None:
        if not self.released and not self.recorded:
            self.write_record()
        self.leave()

    def leave(self) -> None:
        """Go at the end of this round, if nothing is held for anybody then: a reader may just be coming."""
        self.loop.at(0, self._leave_if_free)

    def _leave_if_free(self) -> None:
        """Stay while the record is unwritten, a subscriber has not all, or a message waits; and while it lives."""
        if not self.announced:
            return
        if self.released or (self.recorded and not self.stdio.heard and self.peer.flushed()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.socket_path)
            self.loop.stop()
        elif self.recorded:
            self.loop.at(RECORD_RETRY_SECONDS, self._leave_if_free)

    # what the supervisor says

    def on_message(self, message: Message, fds: list[int]) -> None:
        match message:
            case Query():
                if self.execs is not None:
                    self.execs.tell_again()  # first: who has heard Standing may be asked how an exec ended
                self.peer.send(self.standing())
            case Kill():
                self.answer(message.seq, lambda: self.kill(message))
            case Attach():
                self.answer(message.seq, lambda: self.attach(message, fds), fds)
                return
            case CloseStdin():
                self.answer(message.seq, self.close_stdin)
            case Update():
                self.answer(message.seq, lambda: self.update(message))
            case Resize():
                self.answer(message.seq, lambda: self.resize(message))
            case KeepTerminal():
                deed = "keep terminal of exec"
                self.answer(message.seq, lambda: self.execs_for(deed, message.exec).keep(message.exec, fds), fds)
                return
            case Exec():
                self.on_exec(message, fds)
                return
            case Release():
                self.released = True
                self.maybe_finish()
                self.leave()
        close_unused(fds)

    def answer(self, seq: int, deed: Callable[[], Message | None], fds: list[int] | None = None) -> None:
        """Do it and say Done, or what the deed gives to say; else Refusal."""
        try:
            said = deed()
        except RuntimeTrouble as error:
            channel.close_all(fds or [])
            self.peer.send(Refusal(seq, error.trouble))
        except OSError as error:
            channel.close_all(fds or [])
            self.peer.send(Refusal(seq, from_oserror("do", f"request {seq}", error)))
        else:
            self.peer.send(said or Done(seq))

    def kill(self, message: Kill) -> None:
        if message.exec:
            self.execs_for("kill exec", message.exec).kill(message.exec, message.signal)
            return
        lifecycle.after(self.state, "kill", self.id[:12])
        try:
            processes.pidfd_send_signal(self.pidfd, message.signal)
        except ProcessLookupError:
            pass  # it ended in this moment: what kill wanted, and the record tells how

    def attach(self, message: Attach, fds: list[int]) -> Attached:
        lifecycle.after(self.state, "attach", self.id[:12])
        return self.stdio.attach(message, fds)

    def update(self, message: Update) -> None:
        lifecycle.after(self.state, "update", self.id[:12])
        try:
            resources = load_resources(message.resources)
        except SpecError as error:
            raise RuntimeTrouble(Trouble("update", self.id[:12], str(error))) from None
        updating.update(resources, self.plan.hierarchies, self.cgroup)

    def close_stdin(self) -> None:
        lifecycle.after(self.state, "attach", self.id[:12])
        self.stdio.close_stdin()

    def resize(self, message: Resize) -> None:
        lifecycle.after(self.state, "attach", self.id[:12])
        if not message.exec:
            self.stdio.resize(message.rows, message.columns)
        else:
            self.execs_for("resize exec", message.exec).resize(message.exec, message.rows, message.columns)

    def execs_for(self, deed: str, id: str) -> Executions:
        if self.execs is None:
            raise RuntimeTrouble(Trouble(deed, id[:12], "it is not running", code=NOT_FOUND))
        return self.execs

    def on_exec(self, message: Exec, fds: list[int]) -> None:
        try:
            lifecycle.after(self.state, "exec", self.id[:12])
            self.refuse_if_frozen()
        except RuntimeTrouble as error:
            channel.close_all(fds)
            self.peer.send(Refusal(message.seq, error.trouble))
            return
        if self.execs is None:
            self.execs = Executions(self.loop, self.peer, self.plan, self.entrance, self.cgroup)
        self.peer.send(Done(message.seq))
        self.execs.start(message.exec, message.process, self.pidfd, fds)

    def refuse_if_frozen(self) -> None:
        """A process that is born into a frozen cgroup would not come to its exec."""
        for hierarchy in self.plan.hierarchies:
            frozen = hierarchy.version == 2 or "freezer" in hierarchy.controllers
            if frozen and freezer.is_frozen(hierarchy.version, hierarchy.mount + self.cgroup):
                lifecycle.after(lifecycle.PAUSED, "exec", self.id[:12])

    def standing(self) -> Standing:
        pid = self.pid if self.state != lifecycle.STOPPED else 0
        told = self.record if self.announced else None
        return Standing(
            VERSION,
            self.id,
            self.state,
            pid,
            os.getpid(),
            self.started_ns,
            self.timeline,
            self.execs.ids() if self.execs is not None else [],
            told,
        )


def idle(fds: list[int]) -> None:
    """Wait until something happens for the first time: a shim that nobody spoke to has built nothing yet.

    fds are non-blocking or pidfds; what is readable stays so for the loop that comes after.
    """
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    poll.poll()


def main(
    spawns: socket,
    shims: int,
    plans: Mapping[str, Plan],
    entrances: Mapping[str, Entrance],
    anchors: Anchors,
    starter: Starter | None,
    children: int,
) -> NoReturn:
    """A shim from its fork on: take a Spawn, start it, hold what runs then.

    Whatever goes wrong in here, the container does not outlive it unheld.
    """
    pidfd = -1
    try:
        outcome = REFUSED
        if starter is not None:
            outcome = starter.start(spawns.fileno())
            received: tuple[Message, list[int]] | None = starter.packet() if outcome != OVER else None
        else:
            received = channel.receive(spawns)
        if received is None:
            os._exit(0)  # the supervisor is gone, and with it whatever it wanted
        spawn, fds = received
        assert isinstance(spawn, Spawn)
        plan = plans.get(spawn.template)
        if plan is None:
            # Whoever reads first gets a Spawn: this one is of a plan compiled after we were forked. It goes back, and
            # the supervisor sends it again, with a ticket for a younger shim.
            channel.send(spawns, spawn, fds)
            os._exit(0)
        if outcome == HAPPENED:
            spawns.detach()  # start.c has closed it
        else:
            spawns.close()
        path = socket_path(shims, spawn.id)
        if outcome == HAPPENED and starter is not None:
            birth = starter.birth(spawn)
            pidfd = birth.pidfd
            for fd in fds[1:]:
                os.close(fd)
        else:
            if not plan.own_pids:  # else orphans go to the container's own init
                processes.prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
            delivered = deliver(spawn, fds, path, plan, anchors)
            if delivered is None:
                os._exit(0)
            birth = delivered
            pidfd = birth.pidfd
            if plan.own_pids:  # else orphans come here to be reaped, and none of these fds tells
                idle([fd for fd in (fds[0], birth.listener, pidfd, birth.stdout, birth.stderr) if fd >= 0])
        Shim(plan, entrances.get(spawn.template), spawn, fds[0], birth, path).run(children)
    except BaseException:  # noqa: BLE001 # whatever it is, the container must not outlive it
        sys.excepthook(*sys.exc_info())
        if pidfd >= 0:
            try:
                processes.pidfd_send_signal(pidfd, 9)
            except OSError as error:
                print(f"kill init: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
