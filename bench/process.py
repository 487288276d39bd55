"""Commands and daemons of the bench: every one has a deadline, a log, and is ended by its own pid only.

Commands are started by posix_spawn and awaited on a pidfd: the client side costs about 0.5 ms of CPU a
command. subprocess.Popen with pipes costs three times that, and its `wait(timeout)` polls with sleeps of up
to 50 ms, which would show in the figures of the quick engines.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Debian's packages install below /usr; a build of one's own earlier on PATH would be another version.
_SYSTEM_DIRS = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")


class BenchError(Exception):
    """A peer or a command did not do what was asked; the text says deed, subject and cause."""


def find_tool(name: str) -> str | None:
    """The absolute path of a program: the distribution's one first, then PATH; None if there is none."""
    for folder in (*_SYSTEM_DIRS, *os.get_exec_path()):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def tail(path: Path, lines: int = 3, most: int = 400) -> str:
    """The last non-empty lines of a log, joined by ' | ', at most `most` characters; '' without a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    kept = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " | ".join(kept)[-most:]


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    deadline: float,
    stdout: Path | None = None,
) -> None:
    """Run one command to its end; stderr is appended to `log`, stdout goes to a file or nowhere.

    `deadline` is a time.monotonic() value in seconds. Raises BenchError on a non-zero exit and, after killing
    the command, when the deadline passes.
    """
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    output = ("/dev/null", os.O_WRONLY) if stdout is None else (str(stdout), append | os.O_TRUNC)
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output[0], output[1], 0o644),
            (os.POSIX_SPAWN_OPEN, 2, str(log), append, 0o644),
        ],
    )
    try:
        late = not _ended(pid, deadline - time.monotonic())
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if late:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if late:
        raise BenchError(f"run {_short(argv)}: not done at the deadline; log: {tail(log)}")
    if code != 0:
        raise BenchError(f"run {_short(argv)}: exit {code}; log: {tail(log)}")


def capture(argv: Sequence[str], *, env: Mapping[str, str], timeout: float = 30.0) -> str:
    """The stdout of one quick command as text. Raises BenchError on failure or after `timeout` seconds."""
    try:
        done = subprocess.run(
            argv, env=dict(env), timeout=timeout, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"run {_short(argv)}: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"run {_short(argv)}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


def crowd(items: Iterable[T], work: Callable[[T], None], parallel: int) -> None:
    """Do `work` for every item, at most `parallel` at once; all are tried, then the first error is raised."""
    errors: list[BenchError | OSError] = []

    def attempt(item: T) -> None:
        try:
            work(item)
        except (BenchError, OSError) as error:
            errors.append(error)

    total = 0
    pool = ThreadPoolExecutor(max_workers=parallel)
    try:
        jobs = [pool.submit(attempt, item) for item in items]
        total = len(jobs)
        for job in jobs:
            job.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if errors:
        raise BenchError(f"{len(errors)} of {total} failed; the first: {errors[0]}")


def chunks(items: Sequence[str], parts: int) -> list[list[str]]:
    """The items dealt into at most `parts` non-empty lists."""
    return [list(items[i::parts]) for i in range(min(parts, len(items)))]


class Daemon:
    """A long-running process of a peer: started, waited for until it answers, ended by SIGTERM, then SIGKILL.

    daemon = Daemon(argv, env=env, log=log)
    daemon.until(answers, timeout=30)
    daemon.stop(timeout=30)
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], log: Path, pass_fds: Sequence[int] = ()) -> None:
        self._name, self._log = os.path.basename(argv[0]), log
        with log.open("ab") as out:
            # A session of its own: Ctrl-C is for the bench, which ends its daemons in order.
            self._process = subprocess.Popen(
                argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, pass_fds=pass_fds,
            )  # fmt: skip

    def until(self, answers: Callable[[], bool], timeout: float) -> None:
        """Wait until `answers()`; raises BenchError when the daemon ends before or `timeout` s pass."""
        deadline = time.monotonic() + timeout
        while not answers():
            if self._process.poll() is not None:
                raise BenchError(f"start {self._name}: exit {self._process.returncode}; log: {tail(self._log)}")
            if time.monotonic() > deadline:
                raise BenchError(f"start {self._name}: no answer after {timeout:.0f} s; log: {tail(self._log)}")
            time.sleep(0.05)

    def stop(self, timeout: float) -> None:
        """End the daemon and reap it; at most `timeout` seconds of patience before SIGKILL."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def _ended(pid: int, seconds: float) -> bool:
    """Whether our child `pid` ends within `seconds`."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))
    finally:
        os.close(fd)


def _short(argv: Sequence[str]) -> str:
    words = " ".join(argv[:12]) + (" ..." if len(argv) > 12 else "")
    return repr(words)
