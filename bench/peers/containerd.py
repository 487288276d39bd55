"""containerd through ctr, with a daemon of its own: no CRI, no content of the machine's own containerd."""

from __future__ import annotations

from collections.abc import Sequence

from bench import image
from bench.peers.peer import OneByOne, Site
from bench.process import BenchError, Daemon, capture, run

_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
oom_score = 0
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]
[grpc]
  address = "{folder}/sock"
[ttrpc]
  address = "{folder}/sock.ttrpc"
"""


class Containerd(OneByOne):
    name = "containerd"
    tools = ("containerd", "ctr", "containerd-shim-runc-v2", "runc")
    detached = ("-d", "--null-io")
    driven = (
        "one command a container: `ctr run -d --null-io`, its shim with runc; "
        "removal: `task rm -f` and `container rm` in parallel batches"
    )

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._socket = str(self.folder / "sock")
        self._daemon: Daemon | None = None

    def up(self) -> None:
        super().up()
        config = self.folder / "config.toml"
        config.write_text(_CONFIG.format(folder=self.folder))
        argv = [self.tool("containerd"), "--config", str(config), "--log-level", "warn"]
        self._daemon = Daemon(argv, env=self.site.env, log=self.log)
        self._daemon.until(self._answers, timeout=30)
        if not self.loaded:
            load = ["image", "import", "--snapshotter", "overlayfs", str(self.site.archive)]
            capture(self._ctr(*load), env=self.site.env, timeout=120)
            self.loaded = True

    def down(self) -> None:
        if self._daemon is not None:
            self._daemon.stop(timeout=30)
            self._daemon = None

    def pull(self, name: str, deadline: float) -> None:
        words = ["image", "pull", "--plain-http", "--snapshotter", "overlayfs", name]
        run(self._ctr(*words), env=self.site.env, log=self.log, deadline=deadline)

    def true_in(self, name: str, deadline: float) -> None:
        (container,) = self.names(1)
        options = ["--rm", "--snapshotter", "overlayfs", "--cgroup", f"{self.cgroup}/{container}"]
        argv = self._ctr("run", *options, name, container, *image.TRUE)
        run(argv, env=self.site.env, log=self.log, deadline=deadline)

    def _rm(self, names: list[str], deadline: float) -> None:
        for verb in (("task", "rm", "-f"), ("container", "rm")):
            run(self._ctr(*verb, *names), env=self.site.env, log=self.log, deadline=deadline)

    def _run(self, mode: Sequence[str], name: str, args: list[str], deadline: float) -> None:
        options = ["--snapshotter", "overlayfs", "--cgroup", f"{self.cgroup}/{name}"]
        argv = self._ctr("run", *mode, *options, image.NAME, name, *args)
        run(argv, env=self.site.env, log=self.log, deadline=deadline)

    def _ctr(self, *words: str) -> list[str]:
        return [self.tool("ctr"), "--address", self._socket, *words]

    def _answers(self) -> bool:
        try:
            capture(self._ctr("version"), env=self.site.env, timeout=5)
        except BenchError:
            return False
        return True
