"""Reading and writing fds of somebody else's, who may never give or take another byte: every wait can be ended.

    data = read(fd, 1 << 20, check)         b"" at the end
    write(fd, data, check)                  all of it

`check` is called at least every second and may raise. The fds stay as blocking as their owner has them: whether they
are is a matter of the open file, which is the owner's, too.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable

_EVERY = 1000  # milliseconds
_SURE = select.PIPE_BUF  # bytes that a pipe takes without waiting once poll(2) says that it takes some


def read(fd: int, count: int, check: Callable[[], None]) -> bytes:
    """Up to `count` bytes, as read(2). OSError."""
    while True:
        _await(fd, select.POLLIN, check)
        try:
            return os.read(fd, count)
        except BlockingIOError:
            continue  # somebody else was faster


def write(fd: int, data: bytes, check: Callable[[], None]) -> None:
    """All of it. OSError."""
    most = len(data) if stat.S_ISREG(os.fstat(fd).st_mode) else _SURE
    rest = memoryview(data)
    while rest:
        _await(fd, select.POLLOUT, check)
        try:
            rest = rest[os.write(fd, rest[:most]) :]
        except BlockingIOError:
            continue


def _await(fd: int, event: int, check: Callable[[], None]) -> None:
    poll = select.poll()
    poll.register(fd, event)
    check()
    while not poll.poll(_EVERY):
        check()
