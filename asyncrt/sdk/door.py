"""The door to the supervisor. Whoever needs one first starts it, as tmux does.

    open_door() -> socket        nobody listens -> start() -> `ready PID` on a pipe -> knock again
    knock() -> socket | None     only if one runs

Two may start one at the same moment: one daemon wins the lock, the other writes `running PID`, both go on.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from asyncrt.errors import AsyncrtError, StorageFailed, Unavailable
from asyncrt.sdk.places import Places

# Seconds a supervisor has to come up, adopting what its predecessor left. One that fails says so at once.
DEADLINE = 60.0
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)
_DEED = "start"
_SUBJECT = "the supervisor"


def open_door(places: Places, told: Callable[[str], None] = lambda line: None) -> socket.socket:
    """A connected socket; starts a supervisor where none listens, and says so to `told`. The caller closes it.

    Blocks for DEADLINE at most. Raises Unavailable, StorageFailed, and AsyncrtError for who is not root.
    """
    link = knock(places)
    if link is not None:
        return link
    deadline = time.monotonic() + DEADLINE
    winner = start(places, deadline, told)
    pause = 0.005
    while True:
        link = knock(places)
        if link is not None:
            return link
        if time.monotonic() > deadline:
            cause = f"it runs, but nobody listens at {places.socket} after {DEADLINE:.0f} s"
            raise Unavailable(_DEED, _SUBJECT, cause, f"see {places.log}")
        # The daemon that won the lock may still be on its way to listen(); or it failed, and its reason went to
        # another caller: then we hear it from one of our own.
        # So do we where it did not say who it is (it had the lock, and had not written its pid yet).
        if not winner or not _alive(winner):
            winner = start(places, deadline, told)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


def knock(places: Places) -> socket.socket | None:
    """A connected socket, or None where nobody listens. Raises Unavailable for every other refusal."""
    need_root()
    try:
        return dial(places.socket)
    except Unavailable as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOBODY:
            return None
        raise


def dial(path: str) -> socket.socket:
    """A socket that is connected to a supervisor's. Unavailable where nobody listens; its __cause__ is the OSError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.connect(path)
    except OSError as error:
        link.close()
        raise _unreachable(path, error) from error
    except BaseException:
        link.close()
        raise
    return link


def _unreachable(path: str, error: OSError) -> Unavailable:
    mend = "start one with: asyncrt daemon"
    if error.errno == errno.ENOENT:
        cause = "no such socket"
    elif error.errno == errno.ECONNREFUSED:
        cause = "nobody listens there"
    elif error.errno in (errno.EACCES, errno.EPERM):
        cause, mend = "permission denied", "asyncrt needs root"
    elif error.errno is None:  # what Python itself refuses: AF_UNIX path too long, unix(7): 107 bytes
        cause, mend = str(error).lower(), "choose a shorter --socket"
    else:
        cause = os.strerror(error.errno).lower()
    return Unavailable("connect to", f"{_SUBJECT} at {path}", cause, mend)


def need_root() -> None:
    if os.geteuid() != 0:
        raise AsyncrtError("asyncrt needs root", "", f"this is uid {os.geteuid()}", "try sudo")


def command(places: Places, ready_fd: int) -> list[str]:
    """The command line of a supervisor."""
    daemon = ["daemon", "--ready-fd", str(ready_fd)] if ready_fd >= 0 else ["daemon"]
    return [sys.executable, "-m", "asyncrt", *places.arguments(), *daemon]


def environment() -> dict[str, str]:
    """Ours, with the way to this asyncrt where the interpreter would not find it from another directory."""
    import asyncrt

    package = os.path.abspath(asyncrt.__path__[0])
    home = os.path.dirname(package)
    ours = dict(os.environ)
    if os.path.basename(home) not in ("site-packages", "dist-packages"):
        paths = [home, *filter(None, ours.get("PYTHONPATH", "").split(os.pathsep))]
        ours["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    return ours


def _alive(pid: int) -> bool:
    """A zombie is not: where nobody reaps (a container without an init), it would be taken for alive for ever."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            state = file.read().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


def start(places: Places, deadline: float, told: Callable[[str], None]) -> int:
    """Start a supervisor in a session of its own and wait until it is ready (`deadline`: time.monotonic()).

    The pid of the one that runs now, ours or one that was faster; 0 if it does not say.
    Says so once to `told`. Raises Unavailable with the daemon's own line, or with the tail of its log.
    """
    import subprocess

    log = _open_log(places)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            process = subprocess.Popen(
                command(places, write_end),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=(write_end,),
                start_new_session=True,
            )
        finally:
            os.close(log)
            os.close(write_end)
        _reap(process)
        try:
            line = _line(read_end, deadline)
        except TimeoutError:
            process.terminate()
            cause = f"not ready after {DEADLINE:.0f} s"
            raise Unavailable(_DEED, _SUBJECT, cause, f"see {places.log}") from None
    finally:
        os.close(read_end)
    word, _, rest = line.partition(" ")
    if word == "ready":
        told(f"started the supervisor (pid {rest})")
    elif word != "running":
        _fail(places, line)
    return int(rest) if rest.isdecimal() else 0


def _reap(process: object) -> None:
    """A supervisor that ends before this command must not stay a zombie, which kill(2) takes for alive."""
    import subprocess
    import threading

    assert isinstance(process, subprocess.Popen)
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()


def _open_log(places: Places) -> int:
    try:
        os.makedirs(places.state, 0o700, exist_ok=True)  # noqa: PTH103
    except OSError as error:
        raise _storage("create state directory", places.state, error, "--state") from error
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(places.log, flags, 0o600)
    except OSError as error:
        raise _storage("open", places.log, error, "--state") from error


def _storage(deed: str, path: str, error: OSError, flag: str) -> StorageFailed:
    cause = (error.strerror or str(error)).lower()
    return StorageFailed(deed, path, cause, f"choose another with {flag}")


def _line(fd: int, deadline: float) -> str:
    """One line from a pipe, or what came before its end. TimeoutError at the deadline."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while b"\n" not in data and len(data) < 1 << 16:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        chunk = os.read(fd, 4096)
        if not chunk:
            break
        data += chunk
    return data.decode(errors="replace").strip().partition("\n")[0]


def _fail(places: Places, line: str) -> NoReturn:
    if line:
        raise Unavailable(_DEED, _SUBJECT, line.removeprefix("asyncrt: ").removeprefix("error: "))
    tail = _tail(places.log)
    raise Unavailable(_DEED, _SUBJECT, tail or "it ended without a word", f"see {places.log}")


def _tail(path: str) -> str:
    """The last line of a log, which in a traceback is the one that says what happened."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
