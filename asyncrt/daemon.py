"""The composition root: every object of the supervisor is built here, once, in the order in which they need each other.

    lock -> predecessor's zygote ended -> zygote -> records -> cgroups -> recovery -> socket -> ready

Nothing reaches for globals; nothing is configured by import. The way down is the way up reversed: the socket first,
the records last. Containers go on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import signal
import socket as sockets
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import structlog
import trio

from asyncrt.api.server import listen, serve_connections
from asyncrt.engine import authoring
from asyncrt.engine.engine import Engine
from asyncrt.engine.events import Bus
from asyncrt.engine.hooks import Household
from asyncrt.engine.images import Images
from asyncrt.engine.recovery import recover
from asyncrt.engine.sweeping import Directories
from asyncrt.errors import AsyncrtError, BadRequest, Conflict, StorageFailed, Unavailable
from asyncrt.metadata.writer import open_writer
from asyncrt.snapshots.overlay import Overlay
from asyncrt.supervisor.cgroups import Cgroups, parent_for, path_of
from asyncrt.supervisor.hooks import Function
from asyncrt.supervisor.systemd import Scope
from asyncrt.supervisor.zygote import Zygote, ZygoteProcess, kill_predecessor

SWITCH_INTERVAL = 0.001  # seconds: the writer's thread must not hold the loop's up for Python's usual 5 ms
GC_THRESHOLD = 20_000  # net allocations: a start makes some hundred, and almost none of them in cycles
_log = structlog.get_logger("asyncrt.daemon")


def main(root: str, state: str, socket: str, ready_fd: int | None) -> int:
    """Run the supervisor in the foreground; the exit code. Tells `ready_fd` one line: ready, running, or an error."""
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    report = Report(ready_fd)
    configure_logging()
    os.umask(0o077)
    try:
        with locked(Path(state), report) as won:
            if not won:
                return 0 if ready_fd is not None else 1
            make_directories(Path(root), Path(state), Path(socket).parent)
            Overlay.supported()
            kill_predecessor(Path(state))
            process = ZygoteProcess(Path(state), [Path(root)])
            sys.setswitchinterval(SWITCH_INTERVAL)
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD)
            settings = Settings.of(os.environ)
            trio.run(supervise, Path(root), Path(state), socket, process, report, settings)
            return 0
    except (AsyncrtError, OSError, ExceptionGroup) as error:
        cause: Exception = error
        while isinstance(cause, ExceptionGroup):  # nurseries wrap what went wrong in them
            cause = cause.exceptions[0]
        report.error(str(cause))
        if not isinstance(cause, AsyncrtError | OSError):
            raise
        return 1


@contextlib.asynccontextmanager
async def running(root: Path, state: Path, socket: str = "", settings: Settings | None = None) -> AsyncIterator[str]:
    """A supervisor in the caller's own process and trio run, while the block lasts; the path of its socket.

        hooks = {"poststart": [note]}     # async def note(state): ...
        async with running(root, state, settings=Settings(hooks=hooks)) as socket:
            ...

    For a program that wants hooks of its own, and serves others beside. Containers outlive the block; the next
    supervisor of these places, embedded or not, adopts them. On the main thread alone. Conflict if one runs there.
    """
    socket = socket or str(state / "asyncrt.sock")
    report = Report(None)
    with locked(state, report) as won:
        if not won:
            raise Conflict("run", f"a supervisor at {state}", "one runs already")
        make_directories(root, state, Path(socket).parent)
        Overlay.supported()
        kill_predecessor(state)
        process = ZygoteProcess(state, [root])
        ready = trio.Event()
        report.told = ready.set
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, root, state, socket, process, report, settings or Settings())
            await ready.wait()
            try:
                yield socket
            finally:
                nursery.cancel_scope.cancel()


class Settings(NamedTuple):
    """What a supervisor is told beside its places. `hooks` are an embedder's functions by moment (engine/hooks.py).

    `cgroup_parent` is the cgroup that its own is made in; with the systemd driver the slice that its scope is in.
    """

    cgroup_driver: str = "cgroupfs"
    cgroup_parent: str = ""
    hooks_directories: tuple[str, ...] = ()
    hooks: Mapping[str, Sequence[Function]] = MappingProxyType({})

    @staticmethod
    def of(environment: Mapping[str, str]) -> Settings:
        """ASYNCRT_CGROUP_DRIVER, ASYNCRT_CGROUP_PARENT, ASYNCRT_HOOKS_DIR (several with a colon between them)."""
        directories = environment.get("ASYNCRT_HOOKS_DIR", "").split(":")
        return Settings(
            environment.get("ASYNCRT_CGROUP_DRIVER") or "cgroupfs",
            environment.get("ASYNCRT_CGROUP_PARENT", ""),
            tuple(directory for directory in directories if directory),
        )

    def cgroups(self, state: Path, pids: Sequence[int]) -> Cgroups:
        """The driver that was chosen. BadRequest for one that there is not."""
        if self.cgroup_driver == "cgroupfs":
            above = path_of(self.cgroup_parent, "ASYNCRT_CGROUP_PARENT") if self.cgroup_parent.strip("/") else ""
            return Cgroups(parent_for(state, above))
        if self.cgroup_driver == "systemd":
            if self.cgroup_parent and not self.cgroup_parent.endswith(".slice"):
                cause = f'"{self.cgroup_parent}" is no slice'
                raise BadRequest("read", "ASYNCRT_CGROUP_PARENT", cause, "systemd's driver wants one, as in mine.slice")
            return Scope(f"{parent_for(state)[1:]}.scope", pids, self.cgroup_parent)
        raise BadRequest("read", "ASYNCRT_CGROUP_DRIVER", f'"{self.cgroup_driver}" is none', "cgroupfs or systemd")


class Report:
    """The one line that whoever started this supervisor waits for; without such a one, stderr."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.told: Callable[[], None] = lambda: None

    def say(self, line: str) -> None:
        self.told()
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, f"{line}\n".encode())
            os.close(self._fd)
            self._fd = None

    def error(self, line: str) -> None:
        if self._fd is None:
            sys.stderr.write(f"asyncrt: {line}\n")
        self.say(line)


def configure_logging() -> None:
    """Structured lines on stderr: for people on a terminal, JSON elsewhere."""
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(20),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


@contextlib.contextmanager
def locked(state: Path, report: Report) -> Iterator[bool]:
    """Hold the state directory: one supervisor each. False if another has it; the kernel lets go when we die."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed("use state directory", str(state), (error.strerror or "").lower()) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode().strip() or "?"
            report.say(f"running {holder}")
            sys.stderr.write(f"asyncrt: a supervisor runs already (pid {holder})\n")
            yield False
            return
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield True
    finally:
        os.close(fd)


def make_directories(root: Path, state: Path, door: Path) -> None:
    """All private to root. StorageFailed names the first that cannot be made or written."""
    for path in (root, root / "containers", root / "snapshots", state, state / "shims", door):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(path, os.W_OK | os.X_OK):
                read_only = os.statvfs(path).f_flag & os.ST_RDONLY
                number = errno.EROFS if read_only else errno.EACCES
                raise OSError(number, os.strerror(number), str(path))
        except OSError as error:
            raise StorageFailed("use directory", str(path), (error.strerror or "").lower()) from error
    for path in (root, state):
        path.chmod(0o700)


async def supervise(
    root: Path, state: Path, socket: str, process: ZygoteProcess, report: Report, settings: Settings
) -> None:
    """Build everything, serve until told to stop, take everything down."""
    bus = Bus()
    cgroups = settings.cgroups(state, [os.getpid(), process.pid])
    hooks = Household(settings.hooks_directories, settings.hooks)
    zygote = Zygote(process, state, [root])
    try:
        async with open_writer(root / "metadata.db", bus.announce) as writer:
            cgroups.open()
            async with trio.open_nursery() as jobs:
                snapshots = Overlay(root)
                images = Images(root, snapshots, writer)
                directories = Directories(root, snapshots)
                engine = Engine(root, state, writer, bus, zygote, cgroups, directories, images, jobs, hooks)
                await trio.to_thread.run_sync(images.sweep)
                await authoring.sweep(images, writer)
                jobs.start_soon(images.run)
                jobs.start_soon(images.keep_house)
                jobs.start_soon(zygote.run)
                jobs.start_soon(engine.sweeper.run)
                jobs.start_soon(engine.monitor.run)
                await recover(engine)
                await serve(engine, socket, report)
                jobs.cancel_scope.cancel()
    finally:
        await zygote.close()
        cgroups.close()
        tidy(state)


async def serve(engine: Engine, socket: str, report: Report) -> None:
    """Open the door and say so; until a signal or a Shutdown request."""
    listener = door(socket)
    stopping = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await_signal, stopping)
            nursery.start_soon(serve_connections, engine, listener, stopping)
            _log.info("ready", pid=os.getpid(), socket=socket, containers=len(engine.table))
            report.say(f"ready {os.getpid()}")
            await stopping.wait()
            nursery.cancel_scope.cancel()
    finally:
        _close_door(socket)
        listener.close()


def _close_door(socket: str) -> None:
    Path(socket).unlink(missing_ok=True)


def door(socket: str) -> sockets.socket:
    try:
        return listen(socket)
    except OSError as error:
        hint = "a unix socket's path has at most 107 bytes" if len(os.fsencode(socket)) > 107 else ""
        raise Unavailable("listen on", socket, (error.strerror or str(error)).lower(), hint) from error


async def _await_signal(stopping: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            _log.info("stopping", signal=signal.Signals(number).name)
            stopping.set()


def tidy(state: Path) -> None:
    """What only a living supervisor needs; directories in which something still lies stay."""
    for name in ("anchors/root", "anchors/lower", "anchors/empty", "anchors", "shims"):
        with contextlib.suppress(OSError):
            (state / name).rmdir()
