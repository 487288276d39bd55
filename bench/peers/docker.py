"""docker through its command line, with a dockerd (and its containerd) of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence

from bench import image
from bench.peers.peer import OneByOne, Site
from bench.process import BenchError, Daemon, capture, run


class Docker(OneByOne):
    name = "docker"
    tools = ("docker", "dockerd", "containerd", "containerd-shim-runc-v2", "runc")
    driven = "one command a container: `docker run -d --network none`; removal: `docker rm -f` in parallel batches"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.socket = str(self.folder / "sock")
        # Without a config file of its own the client reads, and may refuse over, the user's one.
        client = str(self.folder / "client")
        self._env = {**site.env, "DOCKER_CONFIG": client, "DOCKER_HOST": f"unix://{self.socket}"}
        self._daemon: Daemon | None = None

    def up(self) -> None:
        super().up()
        (self.folder / "client").mkdir(exist_ok=True)
        (self.folder / "client/config.json").write_text("{}")
        config = self.folder / "daemon.json"
        config.write_text(json.dumps(self._config()))
        argv = [self.tool("dockerd"), "--config-file", str(config)]
        self._daemon = Daemon(argv, env=self.site.env, log=self.log)
        self._daemon.until(self._answers, timeout=60)
        if not self.loaded:
            capture(self._docker("load", "--input", str(self.site.archive)), env=self._env, timeout=120)
            self.loaded = True

    def down(self) -> None:
        if self._daemon is not None:
            self._daemon.stop(timeout=60)
            self._daemon = None

    def pull(self, name: str, deadline: float) -> None:
        run(self._docker("pull", "-q", name), env=self._env, log=self.log, deadline=deadline)

    def true_in(self, name: str, deadline: float) -> None:
        words = ["run", "--rm", "--network", "none", "--pull", "never", name, *image.TRUE]
        run(self._docker(*words), env=self._env, log=self.log, deadline=deadline)

    def foreground(self, args: list[str], *flags: str) -> tuple[list[str], dict[str, str]]:
        words = ["run", "--rm", "--network", "none", "--pull", "never", *flags, image.NAME, *args]
        return self._docker(*words), dict(self._env)

    def entering(self, name: str, args: list[str]) -> tuple[list[str], dict[str, str]]:
        return self._docker("exec", "-i", name, *args), dict(self._env)

    def _rm(self, names: list[str], deadline: float) -> None:
        run(self._docker("rm", "-f", *names), env=self._env, log=self.log, deadline=deadline)

    def _run(self, mode: Sequence[str], name: str, args: list[str], deadline: float) -> None:
        options = ["--network", "none", "--pull", "never", "--name", name]
        argv = self._docker("run", *mode, *options, image.NAME, *args)
        run(argv, env=self._env, log=self.log, deadline=deadline)

    def _docker(self, *words: str) -> list[str]:
        return [self.tool("docker"), *words]

    def _answers(self) -> bool:
        try:
            capture(self._docker("version"), env=self._env, timeout=5)
        except BenchError:
            return False
        return True

    def _config(self) -> dict[str, object]:
        """No bridge and no iptables: the containers have no network, and the host's rules are not ours."""
        return {
            "data-root": str(self.folder / "data"),
            "exec-root": str(self.folder / "exec"),
            "pidfile": str(self.folder / "pid"),
            "hosts": [f"unix://{self.socket}"],
            "storage-driver": "overlay2",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": self.cgroup,
            "oom-score-adjust": 0,
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "log-level": "warn",
        }
