"""exec: one more program in a running container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from shimd.command import phases, removal, status
from shimd.command.birth import connect_console, inherited_fds, write_pid_file
from shimd.command.context import Context
from shimd.command.flags import text, texts
from shimd.command.foreground import Foreground
from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.shelf import CONFIG, Shelf
from shimd.command.terminal import Terminal, own_size
from shimd.container import bundle, entering, home, lifecycle, waiting
from shimd.container.console import TakeConsole
from shimd.container.launch import Born
from shimd.container.making import Anchors, Making, Operation
from shimd.container.plan import Plan
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux.cgroups import Hierarchy
from shimd.spec import text as json
from shimd.spec.config import Process
from shimd.spec.errors import SpecError
from shimd.spec.validate import load, load_process
from shimd.wire import channel
from shimd.wire.messages import Ready, Refused

CAPABILITY_SETS = ("bounding", "effective", "permitted")


def main(context: Context) -> int:
    shelf = context.shelf()
    record = shelf.read()
    _check(shelf, record, bool(context.values["ignore-paused"]))
    document = _read(f"{shelf.path}/{CONFIG}")
    try:
        process = load_process(_process(context, document.get("process") or {"cwd": "/"}))
        config = bundle.with_process(load(document))
    except SpecError as error:
        raise RuntimeTrouble(Trouble("read", "process", str(error))) from None
    if not process.args:
        raise RuntimeTrouble(Trouble("exec in", record.id, "there is no command"))
    # The container's own config says what its processes share: namespaces, seccomp, the capabilities it may have.
    plan = bundle.engines_plan(config, [Hierarchy(*place) for place in _places(record)])
    context.journal.debug(f"exec in {record.id}: {' '.join(process.args)}")
    return Execution(context, record, plan, process).run()


def _check(shelf: Shelf, record: Record, also_paused: bool) -> None:
    now = status.of(shelf, record)
    if now == lifecycle.STOPPED:
        raise RuntimeTrouble(Trouble("exec in", record.id, "cannot exec in a stopped container", "", 3))
    if now == lifecycle.PAUSED:
        if not also_paused:
            cause = "cannot exec in a paused container"
            raise RuntimeTrouble(Trouble("exec in", record.id, cause, "resume it, or use --ignore-paused"))
    elif now == lifecycle.CREATED:
        return  # as runc: its namespaces are there
    else:
        lifecycle.after(now, "exec", record.id)


def _places(record: Record) -> list[tuple[int, str, tuple[str, ...]]]:
    return [(version, mount, tuple(controllers)) for version, mount, controllers in record.hierarchies]


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            document = json.read(file.read())
    except OSError as error:
        raise RuntimeTrouble(from_oserror("read", path, error)) from None
    except json.BadText as error:
        raise RuntimeTrouble(Trouble("read", path, str(error))) from None
    if not isinstance(document, dict):
        raise RuntimeTrouble(Trouble("read", path, "$: expected an object"))
    return document


def _process(context: Context, own: dict[str, Any]) -> dict[str, Any]:
    """The process document: --process as it is, or the container's own with what the flags say."""
    values = context.values
    if path := text(values, "process"):
        return _read(path)
    process = {**own, "terminal": values["tty"], "args": context.arguments[1:]}
    for name, key in (("cwd", "cwd"), ("process-label", "selinuxLabel"), ("apparmor", "apparmorProfile")):
        if value := text(values, name):
            process[key] = value
    if values["no-new-privs"]:
        process["noNewPrivileges"] = True
    process["env"] = [*(own.get("env") or ()), *texts(values, "env")]
    if word := text(values, "user"):
        process["user"] = _user(word, own.get("user") or {})
    if groups := texts(values, "additional-gids"):
        had = process.get("user") or {}
        named = [_number("additional-gids", group) for group in groups]
        process["user"] = {**had, "additionalGids": [*(had.get("additionalGids") or ()), *named]}
    if names := texts(values, "cap"):
        had = process.get("capabilities") or {}
        process["capabilities"] = {
            **had,
            **{kind: [*(had.get(kind) or ()), *names] for kind in CAPABILITY_SETS},
        }
    return process


def _user(word: str, own: dict[str, Any]) -> dict[str, Any]:
    """UID[:GID]: digits only, since a name would have to be looked up in the container's files (CVE-2026-30892)."""
    uid, colon, gid = word.partition(":")
    user = {**own, "uid": _number("user", uid)}
    if colon:
        user["gid"] = _number("user", gid)
    return user


def _number(flag: str, word: str) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 11):
        raise RuntimeTrouble(Trouble("use", f"--{flag} {word!a:.40}", "it is no number"))
    return int(word)


class Execution:
    """One exec, from its command line to its end or, detached, to its beginning."""

    def __init__(self, context: Context, record: Record, plan: Plan, process: Process) -> None:
        self.values = context.values
        self.journal = context.journal
        self.record = record
        self.plan = plan
        self.process = process
        self.kept, env = inherited_fds(_count(context.values["preserve-fds"]))
        # Taken by Exec after the process's own: what LISTEN_FDS says must be true.
        self.making = Making(record.id, Anchors("", "", ""), [], record.cgroup, "", env, {})
        self.making.kept_fds = self.kept
        self.making.cgroups_below = _below(plan, record, texts(context.values, "cgroup"))

    def run(self) -> int:
        detached = bool(self.values["detach"])
        socket = text(self.values, "console-socket")
        if socket and not detached:
            hint = "add --detach, or leave it out"
            raise RuntimeTrouble(Trouble("use", "--console-socket", "a foreground exec has our own terminal", hint))
        if detached:
            self.making.console_fd = connect_console(socket, self.process.terminal)
            self._begin()
            return 0
        foreground = Foreground()
        terminal = Terminal() if self.process.terminal else None
        if terminal is not None:
            self.making.console_fd = terminal.theirs
        try:
            born = self._begin(terminal)
            return foreground.wait(born.pid, born.pidfd, terminal)
        finally:
            if terminal is not None:
                terminal.restore()

    def _begin(self, terminal: Terminal | None = None) -> Born:
        init = removal.open_init(self.record)
        if init < 0:
            raise RuntimeTrouble(Trouble("exec in", self.record.id, "container not running", errno=3))
        try:
            phases.tell(self.journal, f"{self.record.id}: a process is born to join it", phases.SET_UP)
            entering.adopt_children_into(self.plan, init)
            born = entering.enter(
                self.plan,
                self.record.cgroup,
                init,
                self.process,
                (0, 1, 2),
                self.record.id,
                self.making,
                self._dress,
            )
        except OSError as error:
            raise RuntimeTrouble(from_oserror("exec in", self.record.id, error)) from None
        finally:
            os.close(init)
        try:
            if path := text(self.values, "pid-file"):
                write_pid_file(os.path.abspath(path), born.pid)
            phases.tell(self.journal, f"{self.record.id}: the process is {born.pid} and joins it", phases.CHILD)
            _await_exec(born, self.record.id, self.journal)
            if terminal is not None:
                terminal.take()
        except BaseException:
            from shimd.command.birth import bury

            bury(born)
            raise
        return born

    def _dress(self, steps: Sequence[Operation]) -> Sequence[Operation]:
        """Before it all a console; no shim's death to die of; last, is the program there?"""
        process = self.process
        added: list[Operation] = []
        if process.terminal:
            # Now and not once we have the master: the program may ask before that.
            size = process.console_size or (None if self.values["detach"] else own_size())
            added.append(TakeConsole(process.user.uid, size, bound=False))
        if home.wanted(process.env):
            added.append(home.FindHome(process.user.uid))
        find = waiting.FindProgram(process.args[0], waiting.search_path(process.env))
        return (*added, *waiting.without_shim(list(steps), keyring=True), find, waiting.KeepFds())


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _await_exec(born: Born, id: str, journal: Journal) -> None:
    """Until the program runs; RuntimeTrouble if it will not."""
    ready = False
    while True:
        try:
            received = channel.receive(born.sync)
        except ConnectionResetError:
            received = None
        if received is None:
            break
        message, _ = received
        if isinstance(message, Refused):
            raise RuntimeTrouble(message.trouble)
        if isinstance(message, Ready):
            ready = True
            phases.tell(journal, f"{id}: the process executes its program", phases.EXEC)
    if not ready:
        raise RuntimeTrouble(Trouble("exec in", id, "it was killed while it was set up"))


def _with(path: str, hierarchies: list[Hierarchy], record: Record, *, named: bool) -> list[str]:
    """The mounts where there is that path. RuntimeTrouble if it is nowhere, or not in one whose controller was named.

    Who names none means those in which a manager inside made it: on cgroup v1 it need not have made it in all.
    """
    directories = {hierarchy.mount: hierarchy.mount + record.cgroup + path.rstrip("/") for hierarchy in hierarchies}
    found = [mount for mount, directory in directories.items() if os.path.isdir(directory)]
    missing = next((directory for mount, directory in directories.items() if mount not in found), "")
    if missing and (named or not found):
        cause = f"adding pid {os.getpid()} to {missing}/cgroup.procs: no such file or directory"
        raise RuntimeTrouble(Trouble("exec in", record.id, cause, errno=2))
    return found


def _below(plan: Plan, record: Record, words: list[str]) -> dict[str, str]:
    """--cgroup: by a hierarchy's mount, the path below the container's cgroup. RuntimeTrouble if it leads out."""
    below: dict[str, str] = {}
    for word in words:
        controllers, colon, path = word.rpartition(":")
        if ".." in path.split("/"):
            hint = "`..` components are not allowed"
            raise RuntimeTrouble(Trouble("use", "--cgroup", f"{word} is not a sub cgroup path", hint))
        path = os.path.normpath("/" + path)
        chosen = [
            hierarchy
            for hierarchy in plan.hierarchies
            if not colon or set(controllers.split(",")) & set(hierarchy.controllers)
        ]
        if not chosen:
            cause = f"unknown controller {controllers}" if colon else "the container is in no cgroup"
            raise RuntimeTrouble(Trouble("use", f"--cgroup {word}", cause, "/proc/PID/cgroup lists what it is in"))
        below |= dict.fromkeys(_with(path, chosen, record, named=bool(colon)), "" if path == "/" else path)
    return below
