"""The zygote: one per supervisor. It keeps compiled plans and forks a shim per ticket.

It is exec'd before its supervisor opens anything, has one thread, no garbage collector and a small mount namespace:
what each container copies at birth is what the zygote kept.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
from _socket import socket
from typing import NoReturn

import msgpack

from shimd.container.entrance import Entrance, compile_entrance
from shimd.container.making import Anchors
from shimd.container.plan import Plan, compile_plan
from shimd.container.scripting import compile_script
from shimd.container.starting import Starter
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import cgroups, mounts, processes, script, signals
from shimd.server import shim
from shimd.spec.errors import SpecError
from shimd.spec.validate import load
from shimd.wire import channel
from shimd.wire.messages import (
    VERSION,
    Forget,
    Hello,
    Template,
    TemplateReady,
    TemplateRefused,
)
from shimd.wire.values import LogWish

KEPT = ("/", "/proc", "/sys", "/dev")
SIGPIPE = 13


class Zygote:
    """`state` holds the anchors and the shims' sockets; `keep` are paths whose mounts every container start needs.

    control brings templates; tickets, a pipe, one byte per container to start; spawns the Spawn that belongs to one,
    which the zygote never reads itself: what it does between two forks is memory that each shim has to itself.
    """

    def __init__(self, control: socket, tickets: int, spawns: socket, state: str, keep: list[str]) -> None:
        self.control = control
        self.tickets = tickets
        self.spawns = spawns
        self.children = signals.signalfd((processes.SIGCHLD,))
        """A shim reads its own children's signals from this: signalfd(2) is about who reads."""
        self.plans: dict[str, Plan] = {}
        self.entrances: dict[str, Entrance] = {}
        self.hierarchies = cgroups.hierarchies()
        anchors = f"{state}/anchors"
        self.anchors = Anchors(f"{anchors}/root", f"{anchors}/lower", f"{anchors}/empty", private=True)
        for path in (anchors, self.anchors.root, self.anchors.lower, self.anchors.empty, f"{state}/shims"):
            os.makedirs(path, 0o700, exist_ok=True)
        self.shims = os.open(f"{state}/shims", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.starter = Starter(self.shims) if script.usable() else None
        processes.unshare(processes.CLONE_NEWNS)
        mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
        prune_mounts([*KEPT, state, *keep], [tree.mount for tree in self.hierarchies])
        flags = mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("tmpfs", self.anchors.empty, "tmpfs", flags, "size=4k,mode=555")

    def serve(self) -> None:
        """Until the supervisor is gone."""
        channel.send(self.control, Hello(VERSION, os.getpid()))
        wait = script.nursery if script.usable() else nursery
        while True:
            event = wait(self.tickets, self.children, self.control.fileno())
            if event == script.CHILD:
                self.become_shim()
            if event == script.OVER or not self.hear():
                return

    def hear(self) -> bool:
        """One message on the control socket; False at its end."""
        received = channel.receive(self.control)
        if received is None:
            return False
        message, fds = received
        if isinstance(message, Template):
            self.template(message.key, fds)
        elif isinstance(message, Forget):
            self.plans.pop(message.key, None)
            self.entrances.pop(message.key, None)
            if self.starter is not None:
                self.starter.drop(message.key)
        channel.close_all(fds)
        return True

    def template(self, key: str, fds: list[int]) -> None:
        """Compile a config and keep the plan."""
        try:
            document = msgpack.unpackb(_whole_file(fds[0]))
            config = load(document["config"])
            asks = bool(document.get("asks"))
            plan = compile_plan(config, self.hierarchies, bool(document["stdin"]), asks=asks)
        except SpecError as error:
            self.refuse(key, Trouble("read config", "", str(error)))
        except RuntimeTrouble as error:
            self.refuse(key, error.trouble)
        else:
            plan = plan._replace(log=LogWish(*document["log"]))
            self.plans[key] = plan
            scripted = compile_script(plan, self.anchors)
            if scripted is not None and self.starter is not None:
                self.starter.add(key, scripted)
            entrance = compile_entrance(plan, config.process) if config.process is not None else None
            if entrance is not None:
                self.entrances[key] = entrance
            channel.send(self.control, TemplateReady(key))

    def refuse(self, key: str, trouble: Trouble) -> None:
        channel.send(self.control, TemplateRefused(key, trouble))

    def become_shim(self) -> NoReturn:
        """In the child: let go of the zygote's fds, and be a shim."""
        self.control.close()
        os.close(self.tickets)
        os.setsid()
        shim.main(self.spawns, self.shims, self.plans, self.entrances, self.anchors, self.starter, self.children)


def nursery(tickets: int, children: int, control: int) -> int:
    """The reference of script.nursery."""
    poll = select.poll()
    for fd in (tickets, children, control):
        poll.register(fd, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if children in ready:
            reap(children)
        if tickets in ready:
            if not os.read(tickets, 1):
                return script.OVER
            if os.fork() == 0:
                return script.CHILD
        if control in ready:
            return script.CONTROL


def reap(children: int) -> None:
    """Shims that ended: their story is on their sockets, here they are only buried."""
    os.read(children, signals.SIGNALFD_RECORD)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def prune_mounts(kept: list[str], hierarchies: list[str]) -> None:
    """Detach every mount of this namespace that is neither kept, nor above one that is: each container copies them.

    A mount that refuses (EINVAL: locked by a user namespace) stays; it costs time, not safety.
    """
    # As mountinfo names them: /var/run is a symlink to a tmpfs on many a machine.
    wanted = [*(os.path.realpath(path) for path in kept), *hierarchies]
    with open("/proc/self/mountinfo") as file:
        found = [_unescape(line.split()[4]) for line in file]
    for path in reversed(found):
        prefix = path.rstrip("/") + "/"
        if path in wanted or any(other.startswith(prefix) for other in wanted):
            continue
        try:
            mounts.umount2(path, mounts.MNT_DETACH)
        except OSError as error:
            print(f"prune mount {path}: {error.strerror}", file=sys.stderr, flush=True)


def _unescape(word: str) -> str:
    """The octal escapes of proc_pid_mountinfo(5)."""
    if "\\" not in word:
        return word
    return os.fsdecode(word.encode("ascii", "surrogateescape").decode("unicode_escape").encode("latin-1"))


def _whole_file(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def main(control_fd: int, tickets_fd: int, spawns_fd: int, state: str, keep: list[str]) -> int:
    """The zygote process: fds 0 to 2 are open, the three others are the supervisor's lines."""
    processes.set_name("zygote")
    os.setsid()
    os.chdir("/")
    signals.default_all()
    signals.ignore(SIGPIPE)
    signals.block((processes.SIGCHLD,))
    zygote = Zygote(channel.from_fd(control_fd), tickets_fd, channel.from_fd(spawns_fd), state, keep)
    warm_up()
    gc.disable()
    gc.freeze()
    zygote.serve()
    return 0


def warm_up() -> None:
    """Have the config's converters compiled, and the kernel asked, before the first fork."""
    load({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["true"]}})
    with contextlib.suppress(OSError):  # no overlay here: the container that needs one says so
        mounts.overlay_appends()
