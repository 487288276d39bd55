"""A seccomp agent: a listener as config-linux.md asks for (`listenerPath`), with the calls that it was told of."""

import array
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.shimd.line import TIMEOUT

# seccomp_unotify(2), for x86_64 and whoever shares the generic ioctl numbers.
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101
CONTINUE = 1


class Agent:
    """It takes the fd, and answers each call with the errno `number` or lets it go on, once `before` returned."""

    def __init__(self, path: Path, number: int = 0, before: Callable[[], object] = int) -> None:
        self.number = number
        self.before = before
        self.messages: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.over = os.eventfd(0)
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        poll = select.poll()
        for fd in (self.server.fileno(), self.over):
            poll.register(fd, select.POLLIN)
        while self.over not in dict(poll.poll()):
            connection, _ = self.server.accept()
            with connection:
                data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(64))
            fds = array.array("i", ancillary[0][2])
            self.messages.append(json.loads(data))
            assert len(fds) == 1
            self.threads.append(threading.Thread(target=self.serve, args=(fds[0],), daemon=True))
            self.threads[-1].start()

    def serve(self, fd: int) -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not poll.poll()[0][1] & select.POLLHUP:  # nobody is left under the filter
            try:
                notice = fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, bytes(80))
                cookie, _, _, call = struct.unpack_from("=QIIi", notice)
                self.calls.append(call)
                self.before()
                answer = struct.pack("=QqiI", cookie, 0, -self.number, 0 if self.number else CONTINUE)
                fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, answer)
            except FileNotFoundError:  # the caller was killed meanwhile
                continue
        os.close(fd)

    def close(self) -> None:
        os.eventfd_write(self.over, 1)
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        self.server.close()
        os.close(self.over)
