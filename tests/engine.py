"""An engine of its own for one test: its places, its command line, and its end.

    def test_exit_code(engine, rootfs):
        assert engine.cli("run", f"rootfs:{rootfs}", "sh", "-c", "exit 3").returncode == 3

It comes from the `engine` fixture. Its supervisor starts with the first command that needs one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import leaks

CLI = (sys.executable, "-m", "asyncrt")
PROJECT = Path(__file__).resolve().parent.parent


class Engine:
    """`root`, `state` and `socket` lie below `base`, which is short: a unix socket's path has 107 bytes."""

    def __init__(self) -> None:
        # The pid in the name tells another run's leak counter whose it is (tests/leaks.py).
        self.base = Path(tempfile.mkdtemp(prefix=f"asyncrt-{os.getpid()}-", dir="/tmp"))
        self.root = self.base / "root"
        self.state = self.base / "state"
        self.socket = self.base / "asyncrt.sock"
        (self.base / "tmp").mkdir()
        self.env: dict[str, str] = {
            **os.environ,
            "ASYNCRT_ROOT": str(self.root),
            "ASYNCRT_STATE": str(self.state),
            "ASYNCRT_SOCKET": str(self.socket),
            "TMPDIR": str(self.base / "tmp"),
            "PYTHONPATH": str(PROJECT),
        }

    def cli(
        self,
        *args: str | Path,
        input: str | None = None,
        timeout: float = 60,
        check: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `asyncrt ARGS` and returns what became of it; with `check`, anything but 0 fails the test.

        `env` is added to the engine's. Raises subprocess.TimeoutExpired, also when the command is done but
        something that it started still holds its stdout or stderr.
        """
        done = subprocess.run(
            [*CLI, *map(str, args)],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            env={**self.env, **(env or {})},
            cwd=self.base,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(self.story(done))
        return done

    def raw(self, *args: str | Path, input: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        """As `cli`, in bytes."""
        command = [*CLI, *map(str, args)]
        return subprocess.run(
            command,
            input=input,
            capture_output=True,
            timeout=timeout,
            env=self.env,
            cwd=self.base,
            check=False,
        )

    def popen(self, *args: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """The command in the background, its streams as pipes unless `options` say otherwise. The test waits
        for it."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*CLI, *map(str, args)], env=self.env, cwd=self.base, **{**streams, **options})

    def json(self, verb: str, *args: str | Path) -> Any:
        """What a listing verb says with `--format json`."""
        done = self.cli(verb, "--format", "json", *args, check=True)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise AssertionError(f"no JSON: {error}\n{self.story(done)}") from error

    def inspect(self, name: str) -> dict[str, Any]:
        """The one record of that name or id."""
        (record,) = json.loads(self.cli("inspect", name, check=True).stdout)
        return dict(record)

    def ids(self) -> list[str]:
        """Every container that the engine knows, whatever its state."""
        return self.cli("ps", "--all", "--quiet", "--no-trunc", check=True).stdout.split()

    def supervisor_pid(self) -> int:
        return int(self.json("info")["supervisor_pid"])

    def close(self) -> None:
        """Removes all containers, stops the supervisor, checks that both are gone, and deletes the places."""
        if self.socket.exists() or (self.root.is_dir() and any(self.root.iterdir())):
            # After a `kill -9` in the test this starts a supervisor again: to clean up behind its predecessor
            # is its promise too.
            self.cli("rm", "--force", "--all", check=True, timeout=120)
            assert self.ids() == [], "containers are left after rm --force of all"
            self.cli("daemon", "stop", check=True)
            assert not self.socket.exists(), "the socket is left after daemon stop"
        self.delete()

    def delete(self) -> None:
        # rmtree walks into a bind mount, and the lower layer of a `host:` container is this machine's root.
        below = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {self.base}" in line]
        assert not below, "mounts are left, so nothing is deleted:\n" + "\n".join(below)
        shutil.rmtree(self.base)

    def story(self, done: subprocess.CompletedProcess[str]) -> str:
        """A failed command as a person needs it: its words, its output, the supervisor's last lines."""
        words = " ".join(done.args[len(CLI) :])
        lines = [
            f"asyncrt {words}: exit status {done.returncode}",
            done.stdout.rstrip(),
            done.stderr.rstrip(),
        ]
        log = self.state / "daemon.log"
        if log.exists():
            lines += ["-- daemon.log", *log.read_text(errors="replace").splitlines()[-30:]]
        return "\n".join(line for line in lines if line)


def closed(engine: Engine) -> None:
    """Closes it; where that fails, its processes are killed: the next test starts on a quiet machine."""
    try:
        engine.close()
    except BaseException:
        leaks.kill_family_naming(engine.base)
        raise
