"""asyncrt through its command line, with a supervisor of its own.

In mode "batch" one `run -d --count N` starts all and one `rm -f` removes all; in mode "single" it is used
as the other engines are: a command a container, at bounded parallelism.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from bench import image
from bench.peers.peer import Peer, Site, number
from bench.process import BenchError, Daemon, capture, crowd, find_tool, run


class Asyncrt(Peer):
    tools = ("nsenter",)

    def __init__(self, site: Site, mode: str, name: str = "asyncrt") -> None:
        self.name = name
        super().__init__(site)
        self._batch = mode == "batch"
        self.driven = (
            "one `run -d --count N` for all; removal: one `rm -f`"
            if self._batch
            else "one command a container: `run -d`; removal: one `rm -f` of all"
        )
        self._program = site.asyncrt or str(Path(sys.executable).with_name("asyncrt"))
        self._source = f"rootfs:{site.rootfs}"
        self._daemon: Daemon | None = None

    def missing(self) -> str | None:
        if not os.access(self._program, os.X_OK):
            return f"not found: {self._program} (name it with --asyncrt PATH)"
        return super().missing()

    def version(self) -> str:
        return number(capture([self._program, "version"], env=self.site.env))

    def up(self) -> None:
        """The supervisor lives in the host's mount namespace: it takes hybrid cgroups as they are."""
        super().up()
        enter = [find_tool("nsenter") or "nsenter", f"--mount=/proc/self/fd/{self.site.host_mounts}", "--"]
        argv = [*enter, *self._argv("daemon")]
        self._daemon = Daemon(argv, env=self.site.env, log=self.log, pass_fds=(self.site.host_mounts,))
        self._daemon.until(self._answers, timeout=30)

    def start(self, count: int, deadline: float) -> None:
        if self._batch:
            self.live = self._run_batch(count, image.SLEEP, deadline)
            return
        self.live = self.names(count)

        def one(name: str) -> None:
            argv = self._argv("run", "-d", "--name", name, self._source, *image.SLEEP)
            run(argv, env=self.site.env, log=self.log, deadline=deadline)

        crowd(self.live, one, self.site.parallel)

    def remove(self, deadline: float) -> None:
        if self.live:
            run(self._argv("rm", "-f", *self.live), env=self.site.env, log=self.log, deadline=deadline)
        self.live = []

    def complete(self, count: int, deadline: float) -> None:
        if not self._batch:

            def one(name: str) -> None:
                argv = self._argv("run", "--rm", "--name", name, self._source, *image.TRUE)
                run(argv, env=self.site.env, log=self.log, deadline=deadline)

            crowd(self.names(count), one, self.site.parallel)
            return
        ids = self._run_batch(count, image.TRUE, deadline)
        codes = self.folder / "codes"
        run(self._argv("wait", *ids), env=self.site.env, log=self.log, deadline=deadline, stdout=codes)
        found = codes.read_text().split()
        if found != ["0"] * count:
            raise BenchError(f"wait for {count} x true: {len(found)} exit codes, of which {found.count('0')} are 0")
        run(self._argv("rm", "-f", *ids), env=self.site.env, log=self.log, deadline=deadline)

    def down(self) -> None:
        if self._daemon is None:
            return
        daemon, self._daemon = self._daemon, None
        try:
            run(self._argv("daemon", "stop"), env=self.site.env, log=self.log, deadline=time.monotonic() + 30)
        finally:
            daemon.stop(timeout=10)

    def pull(self, name: str, deadline: float) -> None:
        run(self._argv("pull", "-q", name), env=self.site.env, log=self.log, deadline=deadline)

    def true_in(self, name: str, deadline: float) -> None:
        run(self._argv("run", "--rm", name, *image.TRUE), env=self.site.env, log=self.log, deadline=deadline)

    def foreground(self, args: list[str], *flags: str) -> tuple[list[str], dict[str, str]]:
        return self._argv("run", "--rm", *flags, self._source, *args), dict(self.site.env)

    def entering(self, name: str, args: list[str]) -> tuple[list[str], dict[str, str]]:
        return self._argv("exec", "-i", name, *args), dict(self.site.env)

    def attaching(self, args: list[str]) -> tuple[str, list[str], list[str]]:
        """A name, the command that starts a container of it with a stdin, and the one that attaches to it."""
        (name,) = self.names(1)
        return name, self._argv("run", "-d", "-i", "--name", name, self._source, *args), self._argv("attach", name)

    def removing(self, name: str) -> list[str]:
        return self._argv("rm", "-f", name)

    def shims(self) -> list[int] | None:
        text = capture(self._argv("inspect", "--format", "json", *self.live), env=self.site.env, timeout=60)
        tasks: list[dict[str, Any]] = json.loads(text)
        return [int(task["shim_pid"]) for task in tasks]

    def _run_batch(self, count: int, args: list[str], deadline: float) -> list[str]:
        ids = self.folder / "ids"
        argv = self._argv("run", "-d", "--count", str(count), self._source, *args)
        run(argv, env=self.site.env, log=self.log, deadline=deadline, stdout=ids)
        found = ids.read_text().split()
        if len(found) != count:
            raise BenchError(f"asyncrt run --count {count}: {len(found)} ids printed")
        return found

    def _argv(self, *words: str) -> list[str]:
        places = [f"--{place}={self.folder / place}" for place in ("root", "state", "socket")]
        return [self._program, *places, *words]

    def _answers(self) -> bool:
        if not (self.folder / "socket").exists():
            return False  # else `info` would start a supervisor of its own
        try:
            capture(self._argv("info", "--format", "json"), env=self.site.env, timeout=10)
        except BenchError:
            return False
        return True
