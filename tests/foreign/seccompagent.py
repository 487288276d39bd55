"""Stands in for the seccomp agent of runc's suite:   seccompagent.py -socketfile=SOCKET -pid-file FILE

A runtime connects to ``listenerPath`` and sends the container's state as JSON with the filter's listener by SCM_RIGHTS
(runtime-spec, config-linux.md, "The Container Process State"). What the suite expects of the agent: mkdir makes the
directory with "-" and the ``listenerMetadata`` added to its name, chmod and its kin fail with ENOMEDIUM, every other
call goes on. Needs no module beside it. x86-64 alone, as the suite.
"""

import sys
from _socket import AF_UNIX, SOCK_STREAM, socket  # all that it takes to be there

PREFIX = "-socketfile="


def listening(words: list[str]) -> socket:
    """The socket, before anything else is loaded: the suite starts the agent and does not wait for it."""
    listener = socket(AF_UNIX, SOCK_STREAM)
    listener.bind(next(word for word in words if word.startswith(PREFIX)).removeprefix(PREFIX))
    listener.listen()
    return listener


LISTENER = listening(sys.argv) if __name__ == "__main__" else None

import array  # noqa: E402
import errno  # noqa: E402
import fcntl  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import struct  # noqa: E402
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET  # noqa: E402

# seccomp_unotify(2): struct seccomp_notif, struct seccomp_notif_resp and their ioctls
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
RESPONSE = struct.Struct("=QqiI")
SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1

MKDIR, MKDIRAT = 83, 258
CHMODS = {90, 91, 268, 452}
AT_FDCWD = 2**64 - 100


def main(words: list[str], listener: socket) -> int:
    """The agent; it ends when it is killed."""
    for fd in set(range(3, 1024)) - {listener.fileno()}:  # bats waits for whoever holds its pipes
        try:
            os.close(fd)
        except OSError:
            continue
    with open(words[words.index("-pid-file") + 1], "w") as file:
        file.write(str(os.getpid()))
    suffixes: dict[int, str] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        for fd, events in poll.poll():
            if fd == listener.fileno():
                suffixes |= (added := filters_of(listener))
                for filter_fd in added:
                    poll.register(filter_fd, select.POLLIN)
            elif events & select.POLLIN:
                answer(fd, suffixes[fd])
            else:  # no process has this filter any more
                poll.unregister(fd)
                os.close(fd)


def filters_of(listener: socket) -> dict[int, str]:
    """The filter of one container and what is added to its directories' names."""
    caller = socket(fileno=listener._accept()[0])  # type: ignore[attr-defined] # the C half of accept
    held = array.array("i")
    text = b""
    while True:
        data, ancillary, _, _ = caller.recvmsg(65536, CMSG_SPACE(8 * held.itemsize))
        for level, kind, fds in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                held.frombytes(fds[: len(fds) - len(fds) % held.itemsize])
        text += data
        try:
            state = json.loads(text)
        except ValueError:
            if not data:
                raise
            continue
        break
    caller.close()
    metadata = state.get("metadata") or ""
    place = state["fds"].index("seccompFd")
    for number, fd in enumerate(held):
        if number != place:
            os.close(fd)
    return {held[place]: f"-{metadata}" if metadata else ""}


def answer(fd: int, suffix: str) -> None:
    """Takes one call and says what becomes of it."""
    notification = bytearray(NOTIFICATION.size)
    try:
        fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, notification)
    except OSError as error:
        if error.errno == errno.ENOENT:  # the caller was killed meanwhile
            return
        raise
    identity, pid, _, call, _, _, *arguments = NOTIFICATION.unpack(notification)
    error, flags = 0, 0
    if call in CHMODS:
        error = errno.ENOMEDIUM
    elif call == MKDIR:
        error = make(pid, AT_FDCWD, arguments[0], arguments[1], suffix)
    elif call == MKDIRAT:
        error = make(pid, arguments[0], arguments[1], arguments[2], suffix)
    else:
        flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE
    try:
        fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, RESPONSE.pack(identity, 0, -error, flags))
    except OSError as problem:
        if problem.errno != errno.ENOENT:
            raise


def make(pid: int, directory: int, address: int, mode: int, suffix: str) -> int:
    """mkdirat(2) on behalf of a process of the container; 0 or the errno."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        path = os.fsdecode(memory.read(4096).partition(b"\0")[0]) + suffix
    base = "cwd" if directory % 2**32 == AT_FDCWD % 2**32 else f"fd/{directory % 2**32}"
    start = f"/proc/{pid}/root" if path.startswith("/") else f"/proc/{pid}/{base}/"
    try:
        os.mkdir(start + path, mode & 0o7777)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


if __name__ == "__main__":
    assert LISTENER is not None
    sys.exit(main(sys.argv[1:], LISTENER))
