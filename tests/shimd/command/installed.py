"""asyncrt-oci as it is installed, with a front of its own and a reference that notes each time it is asked.

A copy of the front is another file, so it has a planner of its own: tests of several processes do not meet.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import until
from tests.shimd.command.runtime import Runtime
from tests.shimd.configs import config

BUILT = Path(sys.executable).with_name("asyncrt-oci")
PLANNERS = Path("/run/asyncrt-oci-planner")
REFERENCE = """\
#!{python}
import os, sys
with open({asked!r}, "a") as file:
    file.write(" ".join(sys.argv[1:]) + chr(10))
sys.path.insert(0, {project!r})
from shimd.command.main import command
command(sys.argv[1:])
"""


def is_built() -> bool:
    """Is `asyncrt-oci` the program in C?"""
    return BUILT.exists() and BUILT.read_bytes()[:4] == b"\x7fELF"


class Installed(Runtime):
    """Commands by the front; `asked` tells which of them the reference had to do."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        super().__init__(folder, rootfs)
        place = folder / "bin"
        place.mkdir()
        self._asked = folder / "asked"
        front, reference = place / "asyncrt-oci", place / "asyncrt-oci-reference"
        shutil.copy(BUILT, front)
        project = str(Path(__file__).resolve().parents[3])
        reference.write_text(REFERENCE.format(python=sys.executable, asked=str(self._asked), project=project))
        reference.chmod(0o755)
        self.front = front
        self.program = [str(front)]

    def asked(self) -> list[str]:
        """The verbs that the reference did since the last look."""
        lines = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        verbs = ("create", "start", "state", "kill", "delete", "exec", "list", "run", "pause", "resume")
        return [next((word for word in line.split() if word in verbs), line) for line in lines]

    def planners(self) -> list[int]:
        """Ours that live."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                comm, words = (entry / "comm").read_text(), (entry / "cmdline").read_text()
                if comm == "asyncrt-planner\n" and str(self.folder) in words:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def warm(self) -> int:
        """Have a planner, for this mount namespace; its pid."""
        others = self.planners()
        self.must("create", "-b", str(self.bundle(config("true"), "warm")), f"asyncrt-oci-{os.getpid()}-warm")
        self.must("delete", "-f", f"asyncrt-oci-{os.getpid()}-warm")
        (pid,) = until(lambda: [pid for pid in self.planners() if pid not in others], "there is a planner")
        self.asked()
        return pid

    def close(self) -> None:
        self.empty()
        for pid in self.planners():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not self.planners(), "the planner is gone")
        inode = self.front.stat().st_ino
        for path in PLANNERS.glob(f"*-{inode}.*"):
            path.unlink()


@contextmanager
def installed(rootfs: Path) -> Iterator[Installed]:
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-front-", dir="/tmp") as place:
        made = Installed(Path(place), rootfs)
        try:
            yield made
        finally:
            made.close()
