"""A child that does one thing in namespaces of its own and hands back the fd that came of it.

What the caller is in (its mounts, its user) it stays in: namespaces are a process's, and a shim or a command has
more to do in its own.
"""

from __future__ import annotations

import errno
import os
from _socket import socket
from collections.abc import Callable
from typing import NoReturn

from shimd.errors import Trouble
from shimd.linux import processes
from shimd.wire import channel
from shimd.wire.messages import Go, Refused


def descend(deed: Callable[[], int]) -> int:
    """The fd that `deed` gives when a child calls it. Raises the OSError that it raised."""
    ours, theirs = channel.pair()
    try:
        pid, pidfd = processes.clone3()
        if pid == 0:
            _deliver(deed, theirs)
        theirs.close()
        os.close(pidfd)
        try:
            return take(ours)
        finally:
            os.waitpid(pid, 0)
    finally:
        ours.close()
        theirs.close()


def take(end: socket) -> int:
    """The fd that a child sends, or the OSError that it met."""
    received = channel.receive(end)
    if received is None:
        raise OSError(errno.ESRCH, "the child that does it was killed")
    message, fds = received
    if isinstance(message, Refused):
        raise OSError(message.trouble.errno, message.trouble.cause)
    return fds[0]


# From here on it is the child that runs: nothing is imported, no codec is looked up, and no exception leaves.


def _deliver(deed: Callable[[], int], end: socket) -> NoReturn:
    try:
        processes.prctl(processes.PR_SET_DUMPABLE, 0)
        channel.send(end, Go(), [deed()])
    except BaseException as error:  # noqa: BLE001 # nothing may leave the child
        refuse(end, error)
    finally:
        os._exit(0)


def refuse(end: socket, error: BaseException) -> None:
    """Tell why there is no fd."""
    number = (error.errno if isinstance(error, OSError) else None) or errno.EIO
    cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
    channel.send(end, Refused(Trouble("", "", cause, errno=number)))
