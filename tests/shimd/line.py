"""A supervisor's end of the conversation with a shim, and how a test waits: each wait has an end."""

import os
import resource
import select
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from shimd.wire import channel
from shimd.wire.messages import VERSION, Attached, Done, ExecStarted, Message, Query, Refusal, Standing

TIMEOUT = 10.0
M = TypeVar("M", bound=Message)


class Line:
    """The supervisor's end of a conversation with one shim."""

    def __init__(self, end: socket) -> None:
        self.end = end
        self.heard: list[Message] = []
        self.masters: list[int] = []
        """Of the terminals of execs, as they came; whoever takes one closes it."""
        self.seq = 0

    def hear(self, timeout: float = TIMEOUT) -> Message | None:
        """The next message, None at EOF."""
        poll = select.poll()
        poll.register(self.end.fileno(), select.POLLIN)
        assert poll.poll(timeout * 1000), f"the shim said nothing for {timeout} s; before: {self.heard}"
        try:
            received = channel.receive(self.end)
        except ConnectionResetError:  # it went with something of ours unread
            return None
        if received is None:
            return None
        message, fds = received
        if isinstance(message, ExecStarted):
            self.masters += fds
        else:
            assert not fds, "no other message of a shim carries fds"
        self.heard.append(received[0])
        return received[0]

    def expect(self, *kinds: type[M], timeout: float = TIMEOUT) -> M:
        """The next message of one of these kinds; others are kept in `heard`."""
        deadline = time.monotonic() + timeout
        while True:
            message = self.hear(max(0.01, deadline - time.monotonic()))
            assert message is not None, f"the shim went without a {kinds}; before: {self.heard}"
            if isinstance(message, kinds):
                return message

    def silent(self, seconds: float) -> bool:
        """Is nothing said meanwhile?"""
        poll = select.poll()
        poll.register(self.end.fileno(), select.POLLIN)
        return not poll.poll(seconds * 1000)

    def gone(self, timeout: float = TIMEOUT) -> list[Message]:
        """What else it says until it goes."""
        before = len(self.heard)
        if self.end.fileno() < 0:
            return []
        deadline = time.monotonic() + timeout
        while self.hear(max(0.01, deadline - time.monotonic())) is not None:
            continue
        return self.heard[before:]

    def say(self, message: Message, fds: Sequence[int] = ()) -> None:
        channel.send(self.end, message, fds)

    def ask(self, make: Callable[[int], Message], fds: Sequence[int] = ()) -> Done | Attached | Refusal:
        """Send the request make(seq) and wait for its answer."""
        self.seq += 1
        seq = self.seq
        self.say(make(seq), fds)
        while True:
            answer = self.expect(Done, Attached, Refusal)
            assert isinstance(answer, Done | Attached | Refusal)
            if answer.seq == seq:
                return answer

    def query(self) -> Standing:
        self.say(Query(VERSION))
        return self.expect(Standing)

    def close(self) -> None:
        channel.close_all(self.masters)
        self.masters.clear()
        self.end.close()


def connect(state: Path, id: str) -> Line:
    """A new connection to a shim's path socket, by way of its directory's fd: sun_path has 108 bytes."""
    end = socket(AF_UNIX, SOCK_SEQPACKET)
    directory = os.open(state / "shims", os.O_PATH | os.O_CLOEXEC)
    try:
        end.connect(f"/proc/self/fd/{directory}/{id}.sock")
    except OSError:
        end.close()
        raise
    finally:
        os.close(directory)
    return Line(end)


def read_all(fd: int, timeout: float = TIMEOUT) -> bytes:
    """Until EOF."""
    return b"".join(chunks(fd, timeout))


def read_exactly(fd: int, size: int, timeout: float = TIMEOUT) -> bytes:
    """`size` bytes; AssertionError at EOF before."""
    found = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout
    while len(found) < size:
        assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"{len(found)} of {size} bytes came"
        chunk = os.read(fd, size - len(found))
        assert chunk, f"EOF after {len(found)} of {size} bytes"
        found += chunk
    return found


def chunks(fd: int, timeout: float = TIMEOUT) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + timeout
    while True:
        assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"no EOF within {timeout} s"
        chunk = os.read(fd, 1 << 16)
        if not chunk:
            return
        yield chunk


def no_more_fds(pid: int) -> tuple[int, int]:
    """Let a process open nothing more; its limit as it was, for resource.prlimit()."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest = next(number for number in range(len(taken) + 1) if number not in taken)
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def until(truth: Callable[[], object], timeout: float = TIMEOUT) -> bool:
    """Wait for something that tells nobody when it happens."""
    deadline = time.monotonic() + timeout
    while not truth():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def gone(pid: int, timeout: float = TIMEOUT) -> bool:
    return until(lambda: not alive(pid), timeout)
