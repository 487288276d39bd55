"""From a bundle to an init that waits for `start`: what create and run share."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from shimd.command import hooking, notify, phases, plain
from shimd.command.flags import number, text
from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.shelf import CONFIG, NOTIFY, PLAIN, Shelf
from shimd.container import bundle, hooks, launch
from shimd.container import cgroups as container_cgroups
from shimd.container.launch import Born
from shimd.container.making import Anchors, Making
from shimd.container.plan import Plan
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import cgroups, processes
from shimd.linux.proc import state_and_start
from shimd.spec import text as json
from shimd.spec.config import OCI_VERSION, Config, Mount
from shimd.wire import channel
from shimd.wire.messages import Go, HooksDue, Ready, Refused

DEATH_SECONDS = 10.0
FIRST_FD = 3


class Newborn(NamedTuple):
    """A container whose init waits for `start`."""

    record: Record
    config: Config
    born: Born


class Birth:
    """One container in the making. `console` is a connected stream socket for the terminal's master, or -1."""

    def __init__(self, shelf: Shelf, values: Mapping[str, object], journal: Journal) -> None:
        self.shelf = shelf
        self.journal = journal
        self.pid_file = os.path.abspath(text(values, "pid-file")) if text(values, "pid-file") else ""
        self.kept, self.env = inherited_fds(number(values, "preserve-fds") or 0)
        self.wish = bundle.Wish(pivot=not values["no-pivot"], keyring=not values["no-new-keyring"])
        place = os.path.abspath(text(values, "bundle") or ".")
        try:
            os.chdir(place)
        except OSError as error:
            raise RuntimeTrouble(from_oserror("enter bundle", place, error)) from None
        self.config, self.document = bundle.read(
            place, lambda finding: journal.warn(str(finding)), text(values, "config") or CONFIG
        )
        self.place = place
        self.notify = notify_place(self.config)
        if self.notify:
            source = f"{shelf.path}/{NOTIFY}"
            mount = Mount(self.notify, "bind", os.path.abspath(source), notify.OPTIONS)
            self.config = self.config._replace(mounts=(*self.config.mounts, mount))
            self.env.append(f"{notify.VARIABLE}={self.notify}/{notify.SOCKET}")
        self.hierarchies = cgroups.hierarchies()
        self.plan = bundle.compile(self.config, self.hierarchies, self.wish)
        if journal.loud:
            for line in self.plan.describe():
                journal.debug(f"plan: {line}")

    def deliver(self, console: int) -> Newborn:
        """Everything up to the wait, or everything undone and RuntimeTrouble."""
        record = record_of(self.shelf.id, self.place, self.config, self.document, self.plan)
        self.shelf.claim()
        try:
            making = self._making(record, console)
            launch.prepare(self.plan, making)
            try:
                self._share_cgroup(record, making)
                born = self._bear(record, making)
            except BaseException as error:
                left = launch.undo(self.plan.outside, making)
                if left and isinstance(error, RuntimeTrouble):
                    cause = f"{error.trouble.cause}; left behind: {', '.join(left)}"
                    raise RuntimeTrouble(error.trouble._replace(cause=cause)) from None
                raise
        except OSError as error:
            self._give_up(record)
            raise RuntimeTrouble(from_oserror("create", error.filename or self.shelf.id, error)) from None
        except BaseException:
            self._give_up(record)
            raise
        self.shelf.unlock()
        making.close()
        for fd in making.start_fds:
            os.close(fd)  # init alone holds them now: its exec is their end
        return Newborn(record, self.config, born)

    def _give_up(self, record: Record) -> None:
        """The directory goes; where there was an init there is an end, and poststop (runtime.md, "Lifecycle")."""
        self.shelf.remove()
        if record.pid:
            hooking.run_poststop(record, record.state("stopped"), self.journal)

    def _making(self, record: Record, console: int) -> Making:
        anchors = Anchors(record.rootfs, record.rootfs, "")
        making = Making(record.id, anchors, [], record.cgroup, "", self.env, {})
        making.state = record.state("creating")
        making.kept_fds = self.kept
        making.console_fd = console
        making.parents_fds = (self.shelf.fd,)
        self.shelf.write(record)
        self.shelf.put(CONFIG, json.write(self.document))
        making.start_fds = self.shelf.make_fifos()
        if self.notify:
            os.mkdir(f"{self.shelf.path}/{NOTIFY}", 0o755)
        return making

    def _share_cgroup(self, record: Record, making: Making) -> None:
        """Say so where others live in its cgroup, and remember it. RuntimeTrouble if nobody could tell who is whose."""
        if not making.neighbours:
            return
        many = len(set(making.neighbours))
        cause = f"container's cgroup is not empty: {many} process(es) found, such as {making.neighbours[0]}"
        hint = "give it a linux.cgroupsPath of its own"
        if not self.plan.own_pids:
            cause += "; without a pid namespace of its own nobody could tell its processes from them"
            raise RuntimeTrouble(Trouble("take cgroup", record.cgroup, cause, hint, 16))
        self.journal.warn(f"{cause}; they share {record.cgroup} with its limits, and are paused together ({hint})")
        record.shared = True
        self.shelf.write(record)

    def _bear(self, record: Record, making: Making) -> Born:
        phases.tell(self.journal, f"{record.id}: init is born", phases.SET_UP)
        born = launch.bear(self.plan, making, (0, 1, 2))
        phases.tell(self.journal, f"{record.id}: init is {born.pid} and sets itself up", phases.CHILD)
        try:
            record.pid = born.pid
            record.start = state_and_start(born.pid)[1]
            if self._has_early_hooks():
                self.shelf.write(record)  # they may ask for the state
            self._await_ready(record, born)
            record.ready = True
            self.shelf.write(record)
            # The front does not wait for READY, and knows no resctrl.
            words = "" if self.notify or self.config.linux.intel_rdt is not None else plain.words(record)
            if words:
                self.shelf.put(PLAIN, words)
            if self.pid_file:
                write_pid_file(self.pid_file, born.pid)
            return born
        except BaseException:
            bury(born)
            raise

    def _has_early_hooks(self) -> bool:
        held = self.config.hooks
        return bool(held.prestart or held.create_runtime or held.create_container)

    def _await_ready(self, record: Record, born: Born) -> None:
        """Answer init until it waits; RuntimeTrouble if it never will."""
        while True:
            try:
                received = channel.receive(born.sync)
            except ConnectionResetError:
                received = None
            if received is None:
                raise RuntimeTrouble(Trouble("set up", record.id, "init was killed while it was set up"))
            message, _ = received
            if isinstance(message, Refused):
                raise RuntimeTrouble(message.trouble)
            if isinstance(message, HooksDue):
                state = record.state("creating")
                hooks.run("prestart", self.config.hooks.prestart, state)
                hooks.run("createRuntime", self.config.hooks.create_runtime, state)
                channel.send(born.sync, Go())
            if isinstance(message, Ready):
                phases.tell(self.journal, f"{record.id}: init waits for start", phases.SET_UP_ENDED)
                return


def record_of(id: str, place: str, config: Config, document: Mapping[str, Any], plan: Plan) -> Record:
    """What is to be written about a container of the bundle at `place`, which has no process yet."""
    return Record(
        id=id,
        oci_version=OCI_VERSION,
        pid=0,
        ready=False,
        start=0,
        bundle=place,
        rootfs=config.root.path,
        created_ns=time.time_ns(),
        owner=os.geteuid(),
        annotations=dict(config.annotations),
        cgroup=container_cgroups.place(config.linux.cgroups_path, id),
        hierarchies=[tuple(hierarchy) for hierarchy in plan.hierarchies],
        kinds=plan.kinds,
        child_kinds=plan.child_kinds,
        own_pids=plan.own_pids,
        shared=False,
        hooks=hooking.later(document),
    )


def notify_place(config: Config) -> str:
    """Where the directory of its NOTIFY_SOCKET is mounted; "" if it gets none.

    That is so where no manager asks, where the config brings one (podman has its own), and where nothing is mounted.
    """
    process = config.process
    own = any(space.type == "mount" and not space.path for space in config.linux.namespaces)
    brought = process is not None and any(entry.startswith(f"{notify.VARIABLE}=") for entry in process.env)
    path = notify.managers()
    return notify.place_inside(path) if path and own and not brought else ""


def inherited_fds(asked: int) -> tuple[tuple[int, ...], list[str]]:
    """(the caller's fds that are passed, what the program's environment says of them) (sd_listen_fds(3)).

    Of as many numbers from 3 on as --preserve-fds and LISTEN_FDS say those that the caller opened; a gap stays one, as
    under crun. None of ours is among them, whatever its number: our own are close-on-exec, and what came to us is not.
    """
    listening = os.environ.get("LISTEN_FDS", "")
    count = int(listening) if listening.isascii() and listening.isdigit() and len(listening) < 5 else 0
    end = FIRST_FD + count + max(0, asked)
    if end == FIRST_FD:
        return (), []
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    passed = tuple(sorted(fd for fd in numbers if FIRST_FD <= fd < end and _is_callers(fd)))
    return passed, [f"LISTEN_FDS={count}", "LISTEN_PID=1"] if count else []


def _is_callers(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the one by which the directory was listed
        return False


def bury(born: Born) -> None:
    """Kill it, wait for its death and reap it, so that its cgroups can go."""
    try:
        processes.pidfd_send_signal(born.pidfd, 9)
    except ProcessLookupError:
        pass
    poll = select.poll()
    poll.register(born.pidfd, select.POLLIN)
    if poll.poll(DEATH_SECONDS * 1000):
        os.waitpid(born.pid, 0)


def write_pid_file(path: str, pid: int) -> None:
    """As a whole: who waits for the file reads a number as soon as it is there."""
    folder, name = os.path.split(path)
    half = f"{folder}/.{name}"
    try:
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.write(fd, str(pid).encode())
        finally:
            os.close(fd)
        os.rename(half, path)
    except OSError as error:
        raise RuntimeTrouble(from_oserror("write pid file", path, error)) from None


def connect_console(path: str, wanted: bool) -> int:
    """The fd of a connection to --console-socket, -1 without a terminal."""
    if not wanted:
        if path:
            hint = "set process.terminal, or leave --console-socket out"
            raise RuntimeTrouble(Trouble("use", "--console-socket", "the process has no terminal", hint))
        return -1
    if not path:
        hint = "who starts it detached takes the terminal's master by a unix socket"
        raise RuntimeTrouble(Trouble("use", "a terminal", "--console-socket is missing", hint))
    from _socket import AF_UNIX, SOCK_STREAM, socket

    line = socket(AF_UNIX, SOCK_STREAM, 0)
    try:
        line.connect(path)
    except OSError as error:
        raise RuntimeTrouble(from_oserror("connect to console socket", path, error)) from None
    return line.detach()
