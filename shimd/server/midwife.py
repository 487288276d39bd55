"""The midwife: a short-lived child of the shim that does the outside steps and bears init by the reference executor.

Init is her sibling (CLONE_PARENT), so that it is the shim's child; she stays until it runs the user's program. All the
memory that the interpreter dirties on the way is gone with her (docs/decisions/0002-midwife.md), and so are the
namespaces that her children were born into.
"""

from __future__ import annotations

import os
import select
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, socket, socketpair
from collections.abc import Sequence
from typing import NoReturn

from shimd.container import console, launch
from shimd.container.making import Making
from shimd.container.plan import Plan
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import processes
from shimd.wire import channel
from shimd.wire.messages import AtHooks, Delivered, Go, HooksDue, HooksRan, Ready, Refused


def call(plan: Plan, making: Making, stdio: Sequence[int], line: int) -> tuple[launch.Running, int]:
    """Have init borne: it, and the master of its terminal (-1: it has none). `line` leads to the supervisor.

    RuntimeTrouble with init's own reason, or if midwife or init were killed.
    """
    ours, hers = channel.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _main(plan, making, stdio, hers, line)
    hers.close()
    try:
        received = channel.receive(ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)
    if received is None:
        launch.undo(plan.outside, making)
        raise RuntimeTrouble(Trouble("set up", making.id[:12], "its midwife was killed", code=128 + 9))
    message, fds = received
    if isinstance(message, Refused):
        raise RuntimeTrouble(message.trouble)
    assert isinstance(message, Delivered)
    return launch.Running(message.pid, fds[0], message.timeline), fds[1] if plan.terminal else -1


def _main(plan: Plan, making: Making, stdio: Sequence[int], shim: socket, line: int) -> NoReturn:
    """The midwife's whole life."""
    try:
        launch.prepare(plan, making)
        making.stamp("cgroup")
        try:
            _deliver(plan, making, stdio, shim, line)
        except RuntimeTrouble as error:
            left = launch.undo(plan.outside, making)
            if left:
                cause = f"{error.trouble.cause}; left behind: {', '.join(left)}"
                raise RuntimeTrouble(error.trouble._replace(cause=cause)) from None
            raise
    except RuntimeTrouble as error:
        channel.send(shim, Refused(error.trouble))
    except BaseException:  # noqa: BLE001 # nothing may leave the child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _deliver(plan: Plan, making: Making, stdio: Sequence[int], shim: socket, line: int) -> None:
    ours = theirs = None
    if plan.terminal:
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        making.console_fd = theirs.fileno()
    born = launch.bear(plan, making, stdio, processes.CLONE_PARENT)
    try:
        timeline = await_exec(born, making.id, line)
        timeline.append(("exec", time.monotonic_ns() - making.clock_shift))
        master = [] if ours is None else [console.receive_master(ours)]
        channel.send(shim, Delivered(born.pid, timeline), [born.pidfd, *master])
    except RuntimeTrouble:
        launch.bury(born.pidfd)
        raise
    except OSError as error:  # the shim was killed: then nobody would hold this container; or no master came
        launch.bury(born.pidfd)
        raise RuntimeTrouble(Trouble("hand over", making.id[:12], str(error))) from error


def await_exec(born: launch.Born, id: str, line: int = -1) -> list[tuple[str, int]]:
    """Wait until init runs the user's program; its timeline. RuntimeTrouble if it says or shows that it will not.

    Hooks that the supervisor runs have limits of their own, which it keeps.
    """
    deadline = time.monotonic() + launch.SET_UP_SECONDS
    poll = select.poll()
    poll.register(born.sync.fileno(), select.POLLIN)
    ready: Ready | None = None
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise launch.too_slow(id)
        received = channel.receive(born.sync)
        if received is None:
            break
        message, _ = received
        if isinstance(message, Refused):
            raise RuntimeTrouble(message.trouble)
        if isinstance(message, Ready):
            ready = message
        if isinstance(message, HooksDue):
            begun = time.monotonic()
            have_hooks_run(born.pid, id, line)
            deadline += time.monotonic() - begun
            channel.send(born.sync, Go())
    if ready is None:
        raise launch.killed(id)
    return ready.timeline


def have_hooks_run(pid: int, id: str, line: int) -> None:
    """Ask the supervisor for the runtime's hooks and wait for its answer; RuntimeTrouble if one failed, or it died."""
    ours, his = channel.pair()
    try:
        up = channel.from_fd(os.dup(line))
        try:
            channel.send(up, AtHooks(pid), [his.fileno()])
        finally:
            up.close()
        his.close()
        received = channel.receive(ours)
    except OSError:
        received = None
    finally:
        his.close()
        ours.close()
    if received is None or not isinstance(received[0], HooksRan):
        raise RuntimeTrouble(Trouble("run hooks of", id[:12], "the supervisor died"))
    if received[0].trouble is not None:
        raise RuntimeTrouble(received[0].trouble)
