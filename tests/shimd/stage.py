"""A stage for shims: a real zygote, and the supervisor's part played by the test.

    def test_code(stage: Stage) -> None:
        container = stage.start(config("sh", "-c", "echo hi; exit 3"))
        assert container.ended().record.code == 3
        assert container.log("stdout") == b"hi\\n"

`stage` (conftest.py) shares one zygote among the tests of a module; a test that harms its zygote, or needs another
mount beneath it, opens a `Stage` of its own. Every wait has an end: TIMEOUT seconds, then AssertionError.
"""

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack

from shimd.errors import Trouble
from shimd.linux import cgroups, executables
from shimd.wire import channel
from shimd.wire.messages import (
    VERSION,
    Attach,
    Attached,
    Done,
    Ended,
    Exec,
    ExecFailed,
    ExecStarted,
    Failed,
    Hello,
    Kill,
    Refusal,
    Release,
    RootMount,
    Spawn,
    Started,
    Template,
    TemplateReady,
    TemplateRefused,
)
from shimd.wire.values import LogWish
from tests.shimd.configs import process_of
from tests.shimd.line import TIMEOUT, Line, alive, connect, gone, read_all

NO_STREAM, FROM_NOW, OLDEST = -1, -2, -3
NATIVE = LogWish()
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = str(Path(msgpack.__file__).resolve().parents[1])
BOOT = "import sys; sys.path[:0]={!r}; from shimd.__main__ import main; sys.exit(main())"
_numbers = itertools.count()


class StartFailed(Exception):
    """A container could not be started."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(str(failed.trouble))
        self.trouble = failed.trouble


class TemplateFailed(Exception):
    """A config was refused."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


class Container(Line):
    """One container, by way of its shim."""

    def __init__(self, stage: "Stage", id: str) -> None:
        ours, self.theirs = channel.pair()
        super().__init__(ours)
        self.stage = stage
        self.id = id
        self.cgroup = f"{stage.cgroup}/{id}"
        self.base = stage.root / id
        self.directory = self.base / "container"
        self.fds: list[int] = []
        self.root = stage.overlay_of(self.base)
        """What its root is made of; a test may replace it before the start."""
        self._started: Started | None = None

    def started(self) -> Started:
        """Wait until it runs; StartFailed if it does not."""
        if self._started is None:
            outcome = self.expect(Started, Failed)
            if isinstance(outcome, Failed):
                raise StartFailed(outcome)
            assert isinstance(outcome, Started)
            self._started = outcome
        return self._started

    @property
    def pid(self) -> int:
        return self.started().pid

    @property
    def shim_pid(self) -> int:
        return self.started().shim_pid

    def ended(self, timeout: float = TIMEOUT) -> Ended:
        return self.expect(Ended, timeout=timeout)

    def log(self, name: str) -> bytes:
        """`stdout`, `stderr`, `index` or `exit`; b"" if there is no such file."""
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return b""

    def kill(self, signal: int = 9, exec: str = "") -> Done | Attached | Refusal:
        return self.ask(lambda seq: Kill(seq, signal, exec))

    def attach(self, stdout: int = NO_STREAM, stderr: int = NO_STREAM) -> list[int]:
        """Subscribe to the streams from these offsets; the read ends of the pipes, which the container closes."""
        ours, theirs = [], []
        for offset in (stdout, stderr):
            if offset != NO_STREAM:
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.append(read)
                theirs.append(write)
        self.fds += ours
        answer = self.ask(lambda seq: Attach(seq, False, stdout, stderr, False), theirs)
        channel.close_all(theirs)
        assert isinstance(answer, Attached), answer
        return ours

    def attach_stdin(self, once: bool = True) -> int:
        """The write end of a pipe that feeds its stdin; `once`: to close it ends that."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self.fds.append(write)
        answer = self.ask(lambda seq: Attach(seq, True, NO_STREAM, NO_STREAM, once), [read])
        os.close(read)
        assert isinstance(answer, Attached), answer
        return write

    def exec(self, id: str, process: dict[str, Any], stdin: int | None = None) -> tuple[int, int]:
        """Ask for an exec; the read ends of its stdout and stderr."""
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) if stdin is None else stdin
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        self.fds += [out[0], err[0]]
        answer = self.ask(lambda seq: Exec(seq, id, process), [null, out[1], err[1]])
        channel.close_all([out[1], err[1], *([null] if stdin is None else [])])
        assert isinstance(answer, Done), answer
        return out[0], err[0]

    def exec_on_terminal(self, id: str, *args: str, **changes: Any) -> int:
        """Exec with a terminal: its master, which is the caller's."""
        process = process_of(*args, **{"terminal": True, **changes})
        answer = self.ask(lambda seq: Exec(seq, id, process))
        assert isinstance(answer, Done), answer
        outcome = self.expect(ExecStarted, ExecFailed)
        assert isinstance(outcome, ExecStarted), outcome
        return self.masters.pop()

    def run_inside(self, *args: str, **changes: Any) -> str:
        """Exec and wait: what it wrote to stdout."""
        out, _ = self.exec(f"inside-{next(_numbers)}", process_of(*args, **changes))
        return read_all(out).decode()

    def forget(self, fd: int) -> None:
        """Close one of the fds that attach and exec gave."""
        self.fds.remove(fd)
        os.close(fd)

    def reconnect(self) -> Line:
        """What a new supervisor does: the path socket. The caller closes it."""
        return connect(self.stage.state, self.id)

    def close(self) -> None:
        """Have it gone, whatever state it is in: the container, its shim, its directories, its cgroups."""
        pids = [self._started.pid, self._started.shim_pid] if self._started else []
        with contextlib.suppress(OSError):
            self.say(Kill(0, 9, ""))
            self.say(Release())
        channel.close_all(self.fds)
        self.fds.clear()
        with contextlib.suppress(OSError, AssertionError):
            self.gone(timeout=5)
        super().close()
        self.theirs.close()
        if pids and alive(pids[1]):  # its shim heard nobody
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], 9)
        for pid in pids:
            if not gone(pid, 5.0):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        for hierarchy in self.stage.hierarchies:
            cgroups.remove(hierarchy.mount + self.cgroup)
        (self.stage.state / "shims" / f"{self.id}.sock").unlink(missing_ok=True)
        shutil.rmtree(self.base)


class Stage:
    """A zygote, its state, a cgroup of its own."""

    def __init__(self, rootfs: Path, keep: Sequence[Path] = (), sealed: bool = True, scripts: bool = True) -> None:
        self.sealed = sealed
        """Does its zygote run from a read-only mount, as the supervisor starts it?"""
        self.scripts = scripts
        number = next(_numbers)
        self.rootfs = rootfs
        self.base = Path(tempfile.mkdtemp(prefix=f"asyncrt-{os.getpid()}-stage-", dir="/tmp"))
        self.state, self.root = self.base / "state", self.base / "root"
        self.state.mkdir(0o700)
        self.root.mkdir(0o700)
        self.cgroup = f"/asyncrt-test-{os.getpid()}-{number}"
        self.hierarchies = cgroups.hierarchies()
        for hierarchy in self.hierarchies:
            cgroups.make_parent(hierarchy, self.cgroup)
        self.containers: list[Container] = []
        self.keys: dict[bytes, str] = {}
        self.judged = 0
        self._open([str(path) for path in (self.root, rootfs, *keep)])

    def _open(self, keep: list[str]) -> None:
        control, her_control = channel.pair()
        self.spawns, her_spawns = channel.pair()
        her_tickets, self.tickets = os.pipe2(os.O_CLOEXEC)
        hers = [her_control.fileno(), her_tickets, her_spawns.fileno()]
        code = BOOT.format([str(PROJECT), PACKAGES])
        words = [*map(str, hers), str(self.state), *keep]
        interpreter = executables.sealed(sys.executable)  # as the supervisor does
        with (self.base / "zygote.log").open("wb") as log:
            self.zygote = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, "zygote", *words],
                executable=f"/proc/{os.getpid()}/fd/{interpreter}" if self.sealed else sys.executable,
                pass_fds=hers,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "ASYNCRT_SCRIPTS": "on" if self.scripts else "off"},
            )
        os.close(interpreter)
        her_control.close()
        her_spawns.close()
        os.close(her_tickets)
        self.line = Line(control)
        hello = self.line.expect(Hello)
        assert hello == Hello(VERSION, self.zygote.pid)

    def complaints(self) -> str:
        """What the zygote and its shims wrote to stderr since the last call."""
        text = (self.base / "zygote.log").read_text(errors="replace")
        new, self.judged = text[self.judged :], len(text)
        return new

    def template(self, document: dict[str, Any], stdin: bool = False, log: LogWish = NATIVE) -> str:
        """The key of a compiled plan; TemplateFailed."""
        packed: bytes = msgpack.packb({"config": document, "stdin": stdin, "log": log})
        if packed not in self.keys:
            key = f"t{next(_numbers)}"
            memfd = os.memfd_create("template", os.MFD_CLOEXEC)
            try:
                os.write(memfd, packed)
                self.line.say(Template(key), [memfd])
            finally:
                os.close(memfd)
            answer = self.line.expect(TemplateReady, TemplateRefused)
            assert isinstance(answer, TemplateReady | TemplateRefused)
            assert answer.key == key
            if isinstance(answer, TemplateRefused):
                raise TemplateFailed(answer.trouble)
            self.keys[packed] = key
        return self.keys[packed]

    def prepare(self, owner: int = 0) -> Container:
        """A container's directories and line; nothing is asked for yet. `owner` owns its upper layer."""
        id = f"{os.getpid():08x}{next(_numbers):056x}"
        container = Container(self, id)
        for name in (".", "upper", "work", "container"):
            (container.base / name).mkdir(0o755)
        for name in ("upper", "work"):
            os.chown(container.base / name, owner, owner)
        self.containers.append(container)
        return container

    def spawn(self, container: Container, key: str, *, ticket: bool = True, **changes: Any) -> None:
        """Send the Spawn; `changes` replace its fields, `fds` are its trees."""
        fds = changes.pop("fds", [])
        spawn = Spawn(
            id=container.id,
            template=key,
            hostname=container.id[-12:],
            env=[],
            root=[container.root],
            cgroup=container.cgroup,
            directory=str(container.directory),
            trees=[],
            sent_ns=time.monotonic_ns(),
        )._replace(**changes)
        channel.send(self.spawns, spawn, [container.theirs.fileno(), *fds])
        container.theirs.close()
        if ticket:
            self.ticket()

    def ticket(self) -> None:
        os.write(self.tickets, b".")

    def overlay_of(self, base: Path) -> RootMount:
        upper, work = str(base / "upper"), str(base / "work")
        return RootMount("overlay", [str(self.rootfs)], upper, work)

    def start(
        self, document: dict[str, Any], *, stdin: bool = False, wait: bool = True, owner: int = 0, **changes: Any
    ) -> Container:
        """A container that runs; StartFailed, TemplateFailed. Without `wait` it may not be there yet."""
        key = self.template(document, stdin, changes.pop("log", NATIVE))
        container = self.prepare(owner)
        self.spawn(container, key, **changes)
        if wait:
            container.started()
        return container

    def run(self, document: dict[str, Any], timeout: float = TIMEOUT, **changes: Any) -> Container:
        """Start and wait for the end."""
        container = self.start(document, **changes)
        container.ended(timeout)
        return container

    def output(self, document: dict[str, Any], **changes: Any) -> str:
        """What a container wrote to stdout; it must end with 0."""
        container = self.run(document, **changes)
        ended = container.heard[-1]
        assert isinstance(ended, Ended)
        said = container.log("stdout").decode()
        assert ended.record.code == 0, (ended, said, container.log("stderr").decode())
        return said

    def left_of(self, container: Container) -> list[str]:
        """What a container leaves in the kernel and in the state directory: its cgroups, its socket."""
        places = [Path(hierarchy.mount + container.cgroup) for hierarchy in self.hierarchies]
        places.append(self.state / "shims" / f"{container.id}.sock")
        return [str(place) for place in places if place.exists()]

    def empty(self) -> None:
        """End every container."""
        while self.containers:
            self.containers.pop().close()

    def close(self) -> None:
        self.empty()
        self.line.close()
        self.spawns.close()
        os.close(self.tickets)
        try:
            self.zygote.wait(5)
        finally:
            self.zygote.kill()
            self.zygote.wait()
            for hierarchy in self.hierarchies:
                cgroups.remove(hierarchy.mount + self.cgroup)
            shutil.rmtree(self.base)


@contextlib.contextmanager
def opened(rootfs: Path, keep: Sequence[Path] = (), sealed: bool = True, scripts: bool = True) -> Iterator[Stage]:
    """A stage for one test."""
    made = Stage(rootfs, keep, sealed, scripts)
    try:
        yield made
    finally:
        made.close()
