"""Copying between our own stdio and a container's pipes: one thread a stream, so that a reader of stdout
that has stopped (a pager, ^S) holds up neither stderr nor signals.

    with Pumps() as pumps:
        write_end = pumps.output("stdout", 1)      pipe -> our stdout
        read_end = pumps.input(0)                  our stdin -> pipe
        client.run(..., fds=[read_end, write_end]); pumps.close_remote()
        ... poll pumps.fileno(): readable whenever one has ended; pumps.open says how many outputs are left

An exec's terminal has its master here: pumps.show(master, 1), pumps.feed(0, master).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import threading
import time
from types import TracebackType

from asyncrt.cli.keys import Watch
from asyncrt.cli.say import say, write_all

CHUNK = 1 << 20  # bytes asked of one splice(2)
PIPE = 1 << 20  # bytes: a shim that finds room for more wakes less often
_BLOCK = 64 * 1024  # bytes of a read where splice does not work


class Pump:
    """One direction. `broken`: nobody reads our end any more (EPIPE); `error`: another refusal of it."""

    def __init__(self, name: str, source: int, target: int, keys: bytes = b"") -> None:
        self.name = name
        self.detached = False
        """Were the detach keys among what it copied?"""
        self.broken = False
        self.error: OSError | None = None
        self.copied = 0
        self.waiting_since = time.monotonic()  # for the source; infinity while it writes
        self._source = source
        self._target = target
        self._watch = Watch(keys) if keys else None

    def copy(self) -> None:
        """Until the source's end, or until the target refuses."""
        try:
            self._splice()
        except BrokenPipeError:
            self.broken = True
        except OSError as error:
            self.error = error

    def _splice(self) -> None:
        """EINVAL: splice does not take these ends (a file opened with O_APPEND, some ttys)."""
        splices = self._watch is None
        while not self.detached:
            _wait(self._source, select.POLLIN)
            # The source has something or is at its end: what takes time from here on is the target.
            self.waiting_since = float("inf")
            try:
                count = os.splice(self._source, self._target, CHUNK) if splices else self._read_and_write()
            except BlockingIOError:
                _wait(self._target, select.POLLOUT)
                continue
            except OSError as error:
                if error.errno == errno.EIO and os.isatty(self._source):  # its other side was closed: its end
                    return
                if error.errno != errno.EINVAL or not splices:
                    raise
                splices = False
                continue
            finally:
                self.waiting_since = time.monotonic()
            if count == 0:
                return
            self.copied += count

    def _read_and_write(self) -> int:
        data = os.read(self._source, _BLOCK)
        shown = data
        if self._watch is not None:
            shown, self.detached = self._watch.feed(data)
        write_all(self._target, shown)
        return len(data)


class Detached(Exception):
    """Whoever sits at our terminal typed the detach keys: leave, and the container goes on."""


def _pipe() -> tuple[int, int]:
    """(read, write) of a pipe that holds PIPE bytes, or what the machine's bound leaves (pipe(7))."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE)
    return read_end, write_end


def _wait(fd: int, event: int) -> None:
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()


class Pumps:
    """The streams of one attached container or exec."""

    def __init__(self) -> None:
        self.outputs: list[Pump] = []
        self.stdin: Pump | None = None
        self.stdin_ended = False
        """Is our stdin at its end? Not after detach keys."""
        self.open = 0
        self._lock = threading.Lock()
        self._remote: list[int] = []
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Pumps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The threads of open streams go with the process; their fds must stay theirs until then."""
        self.close_remote()
        with self._lock:
            os.close(self._wake)
            os.close(self._waker)
            self._wake = self._waker = -1

    def fileno(self) -> int:
        return self._wake

    def output(self, name: str, target: int) -> int:
        """The write end of a pipe that is copied to our fd `target`."""
        read_end, write_end = _pipe()
        self._remote.append(write_end)
        self.show(read_end, target, name)
        return write_end

    def show(self, source: int, target: int, name: str = "stdout") -> None:
        """Copy what comes from the fd `source`, which is ours from here on, to our fd `target`."""
        self._start(Pump(name, source, target), source, counted=True)

    def input(self, source: int, keys: bytes = b"") -> int:
        """The read end of a pipe that our fd `source` is copied to; closed at its end, or after the detach keys."""
        read_end, write_end = _pipe()
        self._remote.append(read_end)
        self.feed(source, write_end, keys)
        return read_end

    def feed(self, source: int, target: int, keys: bytes = b"") -> None:
        """Copy our fd `source` to the fd `target`, which is ours from here on."""
        self.stdin = Pump("stdin", source, target, keys)
        self._start(self.stdin, target, counted=False)

    def close_remote(self) -> None:
        """Let go of the ends that were handed over; until then no output comes to its end."""
        ends, self._remote = self._remote, []
        for fd in ends:
            os.close(fd)

    def woken(self) -> None:
        """Take the marks of pumps that ended.

        Raises BrokenPipeError once our stdout has no reader, Detached after the detach keys.
        """
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 64):
                pass
        if any(pump.broken for pump in self.outputs):
            raise BrokenPipeError(errno.EPIPE, "nobody reads our output")
        if self.stdin is not None and self.stdin.detached:
            raise Detached

    def idle(self) -> float:
        """Seconds for which no output has had anything to copy; 0 while one writes."""
        alive = [pump.waiting_since for pump in self.outputs]
        return max(0.0, time.monotonic() - max(alive, default=0.0))

    def failure(self) -> int:
        """1 after a refused write (a full disk), which is said on stderr; else 0."""
        failed = [pump for pump in self.outputs if pump.error is not None]
        for pump in failed:
            say(f"write {pump.name}: {os.strerror(pump.error.errno or 0).lower() if pump.error else ''}")
        return 1 if failed else 0

    def _start(self, pump: Pump, ours: int, counted: bool) -> None:
        if counted:
            self.outputs.append(pump)
            self.open += 1
        threading.Thread(target=self._work, args=(pump, ours, counted), name=pump.name, daemon=True).start()

    def _work(self, pump: Pump, ours: int, counted: bool) -> None:
        pump.copy()
        # The container must neither block on a full pipe nor die of it: its log keeps what we cannot show.
        os.close(ours)
        with self._lock:
            if counted:
                self.open -= 1
            else:
                self.stdin_ended = not pump.detached
            if self._waker >= 0:
                with contextlib.suppress(OSError):
                    os.write(self._waker, b".")
