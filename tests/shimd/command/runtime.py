"""A driver for asyncrt-oci as its callers use it: one process a command, bundles on disk."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.patience import SLOWNESS, until

SECONDS = 30.0 * SLOWNESS
PROJECT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "shimd.command.main"]


class Result:
    """What a command did. Warnings and errors are in `log`, one document each."""

    def __init__(self, code: int, stdout: str, stderr: str, log: list[dict[str, str]]) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr
        self.log = log

    @property
    def errors(self) -> str:
        return "\n".join(entry["msg"] for entry in self.log if entry["level"] == "error")

    @property
    def warnings(self) -> str:
        return "\n".join(entry["msg"] for entry in self.log if entry["level"] == "warning")


class Runtime:
    """One --root with its containers, and a folder for bundles."""

    program = COMMAND

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.rootfs = rootfs
        self.root = folder / "state"
        self._count = 0

    def bundle(self, config: dict[str, Any], name: str = "bundle") -> Path:
        """A bundle of that config on the shared, read-only root file system."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        document = {**config, "root": {"path": str(self.rootfs), "readonly": True, **config.get("root", {})}}
        document["root"]["path"] = str(self.rootfs)
        (place / "config.json").write_text(json.dumps(document))
        return place

    def command(self, *words: str) -> list[str]:
        return [*self.program, "--root", str(self.root), *words]

    def __call__(self, *words: str, stdin: str = "", fds: Sequence[int] = (), **env: str) -> Result:
        """A command to its end. stdout and stderr are files: a container that stays would keep a pipe open."""
        self._count += 1
        log = self.folder / f"log-{self._count}"
        out, err = self.folder / f"out-{self._count}", self.folder / f"err-{self._count}"
        with out.open("w") as stdout, err.open("w") as stderr:
            done = subprocess.run(
                [*self.program, "--root", str(self.root), "--log", str(log), "--log-format", "json", *words],
                stdin=None if stdin else subprocess.DEVNULL,
                input=stdin.encode() if stdin else None,
                stdout=stdout,
                stderr=stderr,
                timeout=SECONDS,
                check=False,
                cwd=PROJECT,
                env={**os.environ, **env},
                pass_fds=fds,
            )
        entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        self.output = out
        return Result(done.returncode, out.read_text(), err.read_text(), entries)

    def must(self, *words: str, stdin: str = "", fds: Sequence[int] = (), **env: str) -> Result:
        """A command that has to succeed."""
        result = self(*words, stdin=stdin, fds=fds, **env)
        assert result.code == 0, f"{words}: {result.code}: {result.stderr} {result.log}"
        assert "Traceback" not in result.stderr
        return result

    def fails(self, *words: str, code: int = 1) -> str:
        """A command that has to fail, with an error and no traceback; what it says."""
        result = self(*words)
        assert result.code == code, f"{words}: {result.code}: {result.stderr}"
        assert "Traceback" not in result.stderr
        assert result.errors
        return result.errors

    def state(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.must("state", id).stdout)
        return found

    def status(self, id: str) -> str:
        return str(self.state(id)["status"])

    def await_status(self, id: str, wanted: str) -> None:
        until(lambda: self.status(id) == wanted, f"{id} is {wanted}")

    def ids(self) -> list[str]:
        return self.must("list", "-q").stdout.split()

    def empty(self) -> None:
        for id in self.ids():
            self("delete", "--force", id)


def cgroups_of(id: str) -> list[Path]:
    """The directories of the container's cgroups that exist."""
    found = [path / id for path in Path("/sys/fs/cgroup").iterdir() if (path / id).is_dir()]
    return found + [path for path in [Path("/sys/fs/cgroup") / id] if path.is_dir()]


@contextmanager
def opened(rootfs: Path) -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-oci-", dir="/tmp") as place:
        runtime = Runtime(Path(place), rootfs)
        try:
            yield runtime
        finally:
            runtime.empty()
