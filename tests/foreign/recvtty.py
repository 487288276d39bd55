"""Stands in for the helper of runc's suite that takes a console:   recvtty.py --pid-file FILE --mode null|single SOCKET

Speaks the protocol of ``--console-socket``: whoever connects sends the master of a pty by SCM_RIGHTS. Mode null reads
and forgets what the container writes, for any number of consoles; mode single copies one to stdout and ends with it.
Needs no module beside it, so that it starts as fast as it can.
"""

import array
import os
import select
import socket
import sys


def main(words: list[str]) -> int:
    """The helper, with its command line; 0 when its only console was closed."""
    options = dict(zip(words[:-1:2], words[1:-1:2], strict=True))
    mode = options.get("--mode", options.get("-m", "single"))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(words[-1])
    listener.listen()
    pid_file = options.get("--pid-file")
    if pid_file:
        with open(f"{pid_file}.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{pid_file}.new", pid_file)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                poll.register(console_of(listener), select.POLLIN)
            elif not copy(fd, 1 if mode == "single" else None):
                poll.unregister(fd)
                os.close(fd)
                if mode == "single":
                    return 0


def console_of(listener: socket.socket) -> int:
    """The descriptor that the next caller sends."""
    caller, _ = listener.accept()
    with caller:
        held = array.array("i")
        _, ancillary, _, _ = caller.recvmsg(4096, socket.CMSG_SPACE(held.itemsize))
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                held.frombytes(data[: held.itemsize])
    return held[0]


def copy(fd: int, target: int | None) -> bool:
    """What the console has now, to ``target``; False when no process of the container holds its other side."""
    try:
        data = os.read(fd, 65536)
    except OSError:  # EIO is a pty's word for the end
        return False
    if data and target is not None:
        os.write(target, data)
    return bool(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
