"""The one zygote: exec'd before the supervisor opens anything, fed with templates and spawns, replaced when it dies.

A container that was asked for while the zygote died fails with an error that says so; those that run go on, since
their shims need no zygote.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgpack
import structlog
import trio

import shimd
from asyncrt.errors import StartFailed, Unavailable
from asyncrt.supervisor.line import Line
from asyncrt.supervisor.promise import Promise
from shimd.linux import executables, processes
from shimd.spec.config import Config
from shimd.spec.decode import encode
from shimd.wire.channel import close_all
from shimd.wire.messages import VERSION, Forget, Hello, Spawn, Template, TemplateReady, TemplateRefused
from shimd.wire.values import LogWish

MOST_TEMPLATES = 256
HELLO_SECONDS = 10.0
RESTART_PAUSE = 0.5  # seconds between a zygote's death and its successor, against a tight loop

# -S: the site module would import a megabyte that no shim needs; -I: nothing of the user's environment.
_BOOT = "import sys; sys.path[:0] = {paths!r}; from shimd.__main__ import main; sys.exit(main())"
_SWITCH = "ASYNCRT_SCRIPTS"  # "off" (shimd.linux.script.usable)
_log = structlog.get_logger("asyncrt.supervisor.zygote")


class PackedConfig(NamedTuple):
    """A config as the zygote gets it, and the key that its plan is kept under: equal configs share one."""

    key: str
    document: bytes


def pack(config: Config, stdin: bool, log: LogWish, asks: bool = False) -> PackedConfig:
    """`stdin`: does the container keep a stdin to attach to? `asks`: it stops for the runtime's hooks in any case."""
    document: bytes = msgpack.packb({"config": encode(config), "stdin": stdin, "log": log, "asks": asks})
    return PackedConfig(hashlib.sha256(document).hexdigest()[:16], document)


class ZygoteProcess:
    """A started zygote and the supervisor's ends of its three lines."""

    def __init__(self, state: Path, keep: list[Path]) -> None:
        control, his_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        spawns, his_spawns = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        his_tickets, tickets = os.pipe2(os.O_CLOEXEC)
        log = os.open(state / "shims.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # From 10 on: a dup2 must not hit a descriptor that is still to be duplicated.
        interpreter = executables.sealed(sys.executable)
        given = (null, log, his_control, his_tickets, his_spawns, interpreter)
        sources = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in given]
        targets = ((0, 0), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
        actions = [(os.POSIX_SPAWN_DUP2, sources[place], number) for place, number in targets]
        paths = [str(Path(module.__file__ or "").parent.parent) for module in (shimd, msgpack)]
        arguments = [sys.executable, "-I", "-S", "-c", _BOOT.format(paths=paths), "zygote", "3", "4", "5"]
        arguments += [str(state), *map(str, keep)]
        try:
            # Not by its path: what runs in the zygote is what /proc/PID/exe of a container's first moment leads to.
            program = f"/proc/self/fd/{sources[-1]}"
            self.pid = os.posix_spawn(program, arguments, _environment(), file_actions=actions)
        finally:
            his_control.close()
            his_spawns.close()
            for fd in (his_tickets, log, null, interpreter, *sources):
                os.close(fd)
        self.control = control
        self.spawns = spawns
        self.tickets = tickets
        (state / "zygote.pid").write_text(f"{self.pid} {processes.start_time(self.pid)}\n")


def _environment() -> dict[str, str]:
    """All that a zygote gets of ours: the switch that has the reference executor do every start."""
    switch = os.environ.get(_SWITCH)
    return {"LC_ALL": "C.UTF-8"} | ({} if switch is None else {_SWITCH: switch})


def kill_predecessor(state: Path) -> None:
    """End the zygote of a supervisor that was killed, so that nothing of its wishes is started any more."""
    try:
        pid, started = map(int, (state / "zygote.pid").read_text().split())
    except (FileNotFoundError, ValueError):
        return
    if started and processes.start_time(pid) == started:
        pidfd = processes.pidfd_open(pid)
        try:
            if processes.start_time(pid) == started:
                processes.pidfd_send_signal(pidfd, 9)
        except ProcessLookupError:
            return
        finally:
            os.close(pidfd)


class Kept:
    """A plan that the zygote keeps, and how many starts need it just now."""

    def __init__(self) -> None:
        self.compiled: Promise[None] = Promise()
        self.users = 0


class Zygote:
    """`run` serves it; spawn() asks for a container."""

    def __init__(self, process: ZygoteProcess, state: Path, keep: list[Path]) -> None:
        self._state = state
        self._keep = keep
        self._process = process
        self._control = Line(process.control)
        self._spawns = Line(process.spawns)
        self._hello: Promise[Hello] = Promise()
        self._templates: OrderedDict[str, Kept] = OrderedDict()
        self._spawn_lock = trio.Lock()

    @property
    def pid(self) -> int:
        """0 while a dead one is replaced."""
        return self._process.pid

    async def run(self) -> None:
        """Listen to the zygote; when it dies, start another and let those who wait know."""
        while True:
            with trio.move_on_after(HELLO_SECONDS) as patience:
                async with trio.open_nursery() as life:
                    life.start_soon(self._send_again)
                    await self._listen(patience)
                    life.cancel_scope.cancel()
            reason = "it said nothing" if patience.cancelled_caught else "it died"
            pid = self._process.pid
            os.kill(pid, 9)
            await trio.to_thread.run_sync(os.waitpid, pid, 0)
            self._process.pid = 0
            _log.error("the zygote is replaced", reason=reason, pid=pid)
            self._abandon()
            await trio.sleep(RESTART_PAUSE)
            self._process = ZygoteProcess(self._state, self._keep)
            self._control, self._spawns = Line(self._process.control), Line(self._process.spawns)

    async def _listen(self, patience: trio.CancelScope) -> None:
        while (received := await self._control.receive()) is not None:
            message, _ = received
            match message:
                case Hello():
                    patience.deadline = float("inf")
                    if message.version != VERSION:
                        raise Unavailable("start", "zygote", f"it speaks version {message.version}")
                    self._hello.set(message)
                case TemplateReady():
                    self._templates[message.key].compiled.set(None)
                case TemplateRefused():
                    trouble = message.trouble
                    self._templates[message.key].compiled.fail(
                        StartFailed(trouble.deed, trouble.subject, trouble.cause, trouble.hint, trouble.code)
                    )

    async def _send_again(self) -> None:
        """Spawns that came back: each was read by a shim that was forked before its plan was compiled.

        Where that cannot be done the fds are closed, and the start's own line tells that it failed.
        """
        while (received := await self._spawns.receive()) is not None:
            message, fds = received
            try:
                if isinstance(message, Spawn) and message.template in self._templates:
                    await self.spawn(message, fds)
            except Unavailable as error:
                _log.error("a start is lost", error=str(error))
            finally:
                close_all(fds)

    def _abandon(self) -> None:
        """The zygote is dead: its plans are gone, and so are the lines."""
        gone = Unavailable("start", "container", "the zygote died", "try again")
        for kept in self._templates.values():
            kept.compiled.fail(gone)
        self._templates.clear()
        self._hello = Promise()
        self._control.close()
        self._spawns.close()
        if self._process.tickets >= 0:
            os.close(self._process.tickets)
            self._process.tickets = -1  # who writes a ticket late must not hit what has the number by then

    @contextlib.asynccontextmanager
    async def plan(self, packed: PackedConfig) -> AsyncIterator[None]:
        """Within, the zygote has the plan of a config, compiled once. StartFailed if the config is refused."""
        await self._hello.wait()
        kept = self._templates.get(packed.key)
        if kept is None:
            kept = self._templates[packed.key] = Kept()
            kept.users += 1
            with trio.CancelScope(shield=True):  # whoever else wants this plan waits for the one that we send
                await self._send_template(packed)
        else:
            kept.users += 1
            self._templates.move_to_end(packed.key)
        try:
            await kept.compiled.wait()
            yield
        finally:
            kept.users -= 1

    async def _send_template(self, packed: PackedConfig) -> None:
        memfd = os.memfd_create("template", os.MFD_CLOEXEC)
        try:
            os.write(memfd, packed.document)
            await self._control.send(Template(packed.key), [memfd])
            while len(self._templates) > MOST_TEMPLATES and (key := self._oldest_idle()) is not None:
                del self._templates[key]
                await self._control.send(Forget(key))
        except (OSError, trio.ClosedResourceError):
            kept = self._templates.pop(packed.key, Kept())
            kept.compiled.fail(Unavailable("start", "container", "the zygote died", "try again"))
        finally:
            os.close(memfd)

    def _oldest_idle(self) -> str | None:
        """The plan that was not asked for longest, of those that no start needs just now."""
        return next((key for key, kept in self._templates.items() if kept.users == 0 and kept.compiled.done), None)

    async def spawn(self, message: Spawn, fds: list[int]) -> None:
        """Ask for one container; the answer comes on the socket that is fds[0]. Unavailable if the zygote is gone."""
        try:
            async with self._spawn_lock:  # a spawn and its ticket belong together
                if message.template not in self._templates:
                    raise BrokenPipeError(errno.EPIPE, "the zygote that was told the plan is gone")
                await self._spawns.send(message, fds)
                os.write(self._process.tickets, b".")
        except (OSError, trio.ClosedResourceError) as error:
            raise Unavailable("start", message.id[:12], "the zygote died", "try again") from error

    async def close(self) -> None:
        """End it: it goes when its lines are closed; nobody has to wait longer than a moment."""
        self._abandon()
        if self._process.pid:
            with trio.move_on_after(5, shield=True) as patience:
                await trio.to_thread.run_sync(os.waitpid, self._process.pid, 0, abandon_on_cancel=True)
            if patience.cancelled_caught:
                os.kill(self._process.pid, 9)
        (self._state / "zygote.pid").unlink(missing_ok=True)
