"""Hooks (runtime-spec config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle"): who runs which, where and when.

    moment            run by        in the namespaces of   path as seen by   after
    prestart          the command   the runtime            the runtime       mounts, before pivot_root (deprecated)
    createRuntime     the command   the runtime            the runtime       prestart
    createContainer   init          the container          the runtime       createRuntime, before pivot_root
    startContainer    init          the container          the container     start was asked for, before exec
    poststart         the command   the runtime            the runtime       exec
    poststop          the command   the runtime            the runtime       delete

A hook gets the state on stdin, and its arguments and environment exactly. One without `env` has the runtime's own
environment, as under runc and crun. But a startContainer hook is a program of the container, and has the environment of
its process: what the runtime was started with is nothing for it to see. And a createContainer hook is the machine's
program, and must not have what an image may say (LD_PRELOAD: CVE-2025-23266).
The first that fails ends what is under way; of poststop all run, and a failure is a warning.
startContainer hooks run under the program's system-call filter, as runc has it.

For a container of the engine the supervisor is what the command is here (docs/walks/hooks.md).
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from shimd.container.making import Making, Operation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import processes, signals
from shimd.spec import text
from shimd.spec.config import Hook, Hooks
from shimd.wire import channel
from shimd.wire.messages import Go, HooksDue

KEPT_WORDS = 2048  # of what a failed hook said, the end
SIGPIPE, SIGXFSZ = 13, 25  # which Python ignores
CANNOT_EXECUTE = 127


class RuntimeHooks(NamedTuple):
    """init: ask for the hooks of the runtime's namespaces and wait until they have run."""

    def describe(self) -> tuple[str, str]:
        return "run", "the runtime's hooks"

    def execute(self, making: Making) -> None:
        if making.sync is None:
            raise OSError(errno.ENOTCONN, "nobody runs them", "hooks")
        channel.send(making.sync, HooksDue())
        answer = channel.receive(making.sync)
        if answer is None or not isinstance(answer[0], Go):
            raise OSError(errno.ECANCELED, "the runtime gave up", "hooks")


class ContainerHooks(NamedTuple):
    """init: run the hooks of a moment in the container's namespaces.

    `confine` is done by each hook's process right before exec: init itself needs what it may forbid.
    """

    moment: str
    hooks: tuple[Hook, ...]
    env: tuple[str, ...] | None = None
    """For hooks that bring none; None is the runtime's own."""
    confine: Operation | None = None
    """Done by each hook's process before it becomes the hook."""

    def describe(self) -> tuple[str, str]:
        return "run", f"{self.moment} hooks"

    def execute(self, making: Making) -> None:
        status = "created"
        if self.moment == "createContainer":
            status = "creating"
            os.fchdir(making.root_fd)  # as runc has it: what it mounts or makes is in the root
        hooks = self.hooks
        if self.env is not None:
            hooks = tuple(hook._replace(env=self.env) if hook.env is None else hook for hook in hooks)
        # The pid as the container sees it: that is what the spec wants in its namespaces.
        state = {**making.state, "status": status, "pid": os.getpid()}
        confine = self.confine
        run(self.moment, hooks, state, None if confine is None else lambda: confine.execute(making))


def before_pivot(hooks: Hooks, asks: bool = False) -> list[Operation]:
    """init's steps between the last mount and pivot_root. `asks`: the runtime has something to do there anyway."""
    steps: list[Operation] = []
    if hooks.prestart or hooks.create_runtime or asks:
        steps.append(RuntimeHooks())
    if hooks.create_container:
        steps.append(ContainerHooks("createContainer", hooks.create_container))
    return steps


def run(
    moment: str, hooks: tuple[Hook, ...], state: Mapping[str, object], confine: Callable[[], None] | None = None
) -> None:
    """Run hooks in order, each with `confine` called in its process; RuntimeTrouble at the first that fails."""
    document = text.write(dict(state)).encode()
    for hook in hooks:
        trouble = _run(moment, hook, document, confine)
        if trouble is not None:
            raise RuntimeTrouble(trouble)


def run_all(moment: str, hooks: tuple[Hook, ...], state: Mapping[str, object]) -> list[Trouble]:
    """Run every hook, whatever becomes of the others; what failed."""
    document = text.write(dict(state)).encode()
    troubles = [_run(moment, hook, document) for hook in hooks]
    return [trouble for trouble in troubles if trouble is not None]


def _run(moment: str, hook: Hook, document: bytes, confine: Callable[[], None] | None = None) -> Trouble | None:
    """One hook from birth to death; what was wrong with it."""
    deed, subject = "error running hook", hook.path  # the first is what runc's callers look for
    stdin = os.memfd_create("state")  # not a pipe: a hook that does not read must not block one that writes
    output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.write(stdin, document)
        os.lseek(stdin, 0, os.SEEK_SET)
        os.set_blocking(theirs, True)
        pid, pidfd = _fork()
        if pid == 0:
            _become(hook, stdin, theirs, confine)
        try:
            words, in_time = _listen(pidfd, output, hook.timeout)
            if not in_time:
                _kill(pid)
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(pidfd)
    except OSError as error:
        return Trouble(deed, subject, (error.strerror or str(error)).lower(), errno=error.errno or 0)
    finally:
        channel.close_all((stdin, output, theirs))
    if not in_time:
        return Trouble(deed, subject, f"{moment} hook took longer than {hook.timeout} s")
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    how = f"failed with exit code {code}" if code > 0 else f"was killed by signal {-code}, {signals.words(-code)}"
    cause = f"{moment} hook {how}"
    said = words.decode(errors="replace").strip()
    return Trouble(deed, subject, f"{cause}: {said}" if said else cause)


def _fork() -> tuple[int, int]:
    """(pid, pidfd), pid 0 in the child. A filter may know no clone3, as docker's profile does: it answers ENOSYS."""
    try:
        return processes.clone3()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    pid = os.fork()
    return pid, os.pidfd_open(pid) if pid else -1


def _listen(pidfd: int, output: int, timeout: int | None) -> tuple[bytes, bool]:
    """The end of what it says until it ends, and whether it ended in time.

    Its own end counts, not the pipe's: what it left running in the background may keep that for ever.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(output, select.POLLIN)
    words = b""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        events = poll.poll(left)
        if not events:
            return words, False
        if any(fd == output for fd, _ in events):
            try:
                words = (words + os.read(output, 1 << 16))[-KEPT_WORDS:]
            except BlockingIOError:
                pass
        elif events[0][0] == pidfd:
            return words, True


def _kill(pid: int) -> None:
    """The hook and what it started; it is not reaped yet, so the group is its own."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:  # killed between clone3 and setpgid
        os.kill(pid, 9)


def _environment(hook: Hook) -> Mapping[str, str]:
    if hook.env is None:
        return os.environ
    return dict(entry.split("=", 1) for entry in hook.env if "=" in entry)


def _become(hook: Hook, stdin: int, output: int, confine: Callable[[], None] | None) -> NoReturn:
    try:
        os.setpgid(0, 0)
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        processes.close_range(3, flags=processes.CLOSE_RANGE_CLOEXEC)
        signals.default(SIGPIPE)
        signals.default(SIGXFSZ)
        signals.unblock_all()
        environment = _environment(hook)
        if confine is not None:
            confine()
        os.execve(hook.path, hook.args or (hook.path,), environment)
    except OSError as error:
        os.write(2, (error.strerror or "it cannot be executed").lower().encode())
    finally:
        os._exit(CANNOT_EXECUTE)
