"""A fake supervisor and the command line in front of it."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.asyncrt.fake_supervisor import FakeSupervisor

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeSupervisor]:
    with FakeSupervisor(tmp_path / "s") as made:
        yield made


class Command:
    """`asyncrt` with its places below `base`; the socket is the fake's."""

    def __init__(self, base: Path) -> None:
        self.argv = [sys.executable, "-m", "asyncrt"]
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ASYNCRT_")},
            "ASYNCRT_ROOT": str(base / "root"),
            "ASYNCRT_STATE": str(base / "state"),
            "ASYNCRT_SOCKET": str(base / "s"),
            "PYTHONPATH": str(PROJECT),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
        }

    def __call__(self, *words: str, input: bytes | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.argv, *words],
            env=self.env,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def into(self, stdout: BinaryIO, *words: str) -> subprocess.CompletedProcess[bytes]:
        """With this file as its stdout."""
        return subprocess.run(
            [*self.argv, *words],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self.argv, *words], env=self.env, **{**streams, **options})


@pytest.fixture
def asyncrt(tmp_path: Path, fake: FakeSupervisor) -> Iterator[Command]:
    """The fake holds the state directory as a supervisor does: in the moment in which it is away, a command that
    starts a real one hears that one runs, and looks again."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(os.getpid(), file=lock, flush=True)
        yield Command(tmp_path)


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """With nobody behind the socket."""
    return Command(tmp_path)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait for something to become true, 10 s at most."""
    import time

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.01)

    return wait
