"""A container without a zygote: by a runtime in mounts of its own, which may be shared, as a command's are.

def deed() -> None:
    with Direct(shell("read line; ls /vol"), rootfs) as container:
        subprocess.run(["mount", ...])  # as the machine
        assert container.ask("go") == "found\n"

in_a_child(deed, shared=True)
"""

import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from shimd.container import launch
from shimd.container.making import Anchors, Making
from shimd.container.plan import compile_plan
from shimd.linux import mounts, processes
from shimd.spec.validate import load
from shimd.wire import channel
from shimd.wire.messages import Refused, RootMount


def in_a_child(deed: Callable[[], None], shared: bool = False) -> None:
    """Do it in a mount namespace that ends with it; what it raises fails the test.

    shared: all mounts there are, among themselves and not with the machine's.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            processes.unshare(processes.CLONE_NEWNS)
            mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_PRIVATE, recursive=True)
            if shared:
                mounts.mount_setattr(mounts.AT_FDCWD, "/", propagation=mounts.MS_SHARED, recursive=True)
            deed()
        except BaseException:  # noqa: BLE001 # it is the parent's to raise
            os.write(write, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    assert not said, said


class Direct:
    """One container on a directory as its root; no cgroups."""

    def __init__(self, document: dict[str, Any], rootfs: Path) -> None:
        self.plan = compile_plan(load(document), [], stdin=True)
        self.base = tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-direct-", dir="/tmp")
        places = [f"{self.base.name}/{name}" for name in ("root", "lower", "empty")]
        for place in places:
            os.mkdir(place)
        root = [RootMount("bind", [str(rootfs)])]
        self.making = Making("direct", Anchors(*places), root, "", "", [], {})
        launch.prepare(self.plan, self.making)
        stdin, self.stdin = os.pipe2(os.O_CLOEXEC)
        self.stdout, stdout = os.pipe2(os.O_CLOEXEC)
        self.born = launch.bear(self.plan, self.making, (stdin, stdout, 2))
        os.close(stdin)
        os.close(stdout)
        while (received := channel.receive(self.born.sync)) is not None:  # EOF: it runs
            assert not isinstance(received[0], Refused), received[0]

    def __enter__(self) -> "Direct":
        return self

    def ask(self, line: str = "") -> str:
        """Write a line to its stdin and read what it says until it ends."""
        os.write(self.stdin, f"{line}\n".encode())
        with open(self.stdout, "rb", closefd=False) as file:
            return file.read().decode()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes.pidfd_send_signal(self.born.pidfd, 9)
        os.waitpid(self.born.pid, 0)
        left = launch.undo(self.plan.outside, self.making)
        self.base.cleanup()
        assert not left
