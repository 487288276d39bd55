"""The runtime under test, as its callers have it: a program with runc's command line.

    runtime = Runtime("/usr/bin/crun", room)
    done = runtime("create", "--bundle", "/bundle", "id")      done.code, done.out, done.err

The operations of runtime.md are ``create``, ``start``, ``state``, ``kill`` and ``delete``; ``run`` is create, start,
wait and delete in one, which every such program has. Nothing of this project is imported: what is proven here holds
for any runtime.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SLOWNESS = float(os.environ.get("ASYNCRT_TEST_SLOWNESS", "1"))
"""By how much longer than anywhere else everything may take: in an emulated machine a command has its seconds."""
SECONDS = 60.0 * SLOWNESS
# crun refuses the "hybrid" layout: v1 controllers with cgroup2 mounted beside them.
REFUSES_HYBRID = frozenset({"crun"})


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def ok(self) -> "Done":
        """This, once it is sure that the command succeeded."""
        assert self.code == 0, f"exit status {self.code}: {self.err or self.out}"
        return self

    def refused(self) -> "Done":
        """This, once it is sure that the command said no: not with a crash, and not without a word."""
        assert self.code != 0, "succeeded, where an error must be generated"
        assert self.code > 0, f"was killed by signal {-self.code}"
        assert "Traceback" not in self.err + self.out, self.err + self.out
        return self


class Room:
    """The runtime namespace: a process that holds mount and network namespaces of the tests' own.

    So tests may mount and make links without touching the machine's, and cgroup2 may be unmounted where a runtime
    wants that.
    """

    def __init__(self, without_cgroup2: bool) -> None:
        # crun makes directories where cgroup2 was: on a file system that goes with the room.
        place = "/sys/fs/cgroup/unified"
        hide = f"umount {place} 2>/dev/null && mount -t tmpfs none {place}; "
        steps = hide if without_cgroup2 else ""
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", f"{steps}echo made; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"made\n", "the runtime namespace could not be made"
        self.pid = self._holder.pid
        self.enter = ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", f"--net=/proc/{self.pid}/ns/net"]

    def run(self, *words: str) -> str:
        """The output of a program of the machine, run here; CalledProcessError if it fails."""
        done = subprocess.run([*self.enter, *words], check=True, capture_output=True, text=True, timeout=SECONDS)
        return done.stdout

    def namespace(self, kind: str) -> str:
        """The identity of a namespace (mnt, net, pid ...) in which runtimes are started."""
        return os.readlink(f"/proc/{self.pid}/ns/{kind}")

    def close(self) -> None:
        """Ends the holder; the namespaces go with it."""
        self._holder.communicate(timeout=SECONDS)


class Runtime:
    """A runtime's program with a state directory of its own, started in a room."""

    def __init__(self, program: str, room: Room, root: Path) -> None:
        self.program, self.room, self.root = program, room, root
        self.name = name_of(program)

    def words(self, *words: str) -> list[str]:
        """The whole command."""
        return [*self.room.enter, self.program, "--root", str(self.root), *words]

    def __call__(
        self,
        *words: str,
        stdout: int | None = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        fds: tuple[int, ...] = (),
        umask: int = -1,
    ) -> Done:
        """Runs a command to its end, with nothing on stdin. Where stdout is given, stderr goes there as well."""
        done = subprocess.run(
            self.words(*words),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE if stdout == subprocess.PIPE else stdout,
            timeout=SECONDS,
            env=None if env is None else dict(env),
            pass_fds=fds,
            umask=umask,
        )
        out, err = (text.decode(errors="replace") if text else "" for text in (done.stdout, done.stderr))
        return Done(done.returncode, out, err)


def program() -> str | None:
    """The program under test: ``OCI_RUNTIME``, else asyncrt-oci beside this interpreter; None if there is none."""
    wanted = os.environ.get("OCI_RUNTIME")
    if wanted:
        found = shutil.which(wanted)
        assert found, f"OCI_RUNTIME: there is no program {wanted}"
        return os.path.abspath(found)
    beside = Path(sys.executable).with_name("asyncrt-oci")
    return str(beside) if beside.exists() else None


def name_of(path: str) -> str:
    """What it calls itself: the first word of ``--version`` (crun, runc, asyncrt-oci)."""
    done = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=SECONDS)
    return (done.stdout.split() or [Path(path).name])[0]
