"""podman with crun and conmon, no daemon: one command a container."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench import image
from bench.peers.peer import OneByOne, Site
from bench.process import capture, run

# The limits are named because podman's defaults want more than a machine without CAP_SYS_RESOURCE can give;
# cgroupfs, file and k8s-file because there may be neither systemd nor a journal.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile={nofile}:{nofile}", "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


class Podman(OneByOne):
    name = "podman"
    tools = ("podman", "conmon", "crun")
    driven = "one command a container: `podman run -d --network none`; removal: `rm -f -t 0` in parallel batches"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._env = {
            **site.env,
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def up(self) -> None:
        super().up()
        if self.loaded:
            return
        nofile = min(20000, _hard_nofile())
        (self.folder / "containers.conf").write_text(_CONTAINERS_CONF.format(nofile=nofile))
        (self.folder / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        load = ["load", "--quiet", "--signature-policy", str(self.folder / "policy.json")]
        (self.folder / "storage.conf").write_text(_STORAGE_CONF.format(folder=self.folder))
        capture([self.tool("podman"), *load, "--input", str(self.site.archive)], env=self._env, timeout=120)
        self.loaded = True

    def pull(self, name: str, deadline: float) -> None:
        words = ["pull", "--quiet", "--tls-verify=false", "--signature-policy", str(self.folder / "policy.json"), name]
        run([self.tool("podman"), *words], env=self._env, log=self.log, deadline=deadline)

    def true_in(self, name: str, deadline: float) -> None:
        options = ["--rm", "--network", "none", "--pull", "never", "--cgroup-parent", self.cgroup]
        argv = [self.tool("podman"), "run", *options, name, *image.TRUE]
        run(argv, env=self._env, log=self.log, deadline=deadline)

    def foreground(self, args: list[str], *flags: str) -> tuple[list[str], dict[str, str]]:
        options = ["--rm", "--network", "none", "--pull", "never", "--cgroup-parent", self.cgroup, *flags]
        return [self.tool("podman"), "run", *options, image.NAME, *args], dict(self._env)

    def entering(self, name: str, args: list[str]) -> tuple[list[str], dict[str, str]]:
        return [self.tool("podman"), "exec", "-i", name, *args], dict(self._env)

    def _rm(self, names: list[str], deadline: float) -> None:
        argv = [self.tool("podman"), "rm", "--ignore", "-f", "-t", "0", *names]
        run(argv, env=self._env, log=self.log, deadline=deadline)

    def _run(self, mode: Sequence[str], name: str, args: list[str], deadline: float) -> None:
        options = ["--network", "none", "--pull", "never", "--cgroup-parent", self.cgroup, "--name", name]
        argv = [self.tool("podman"), "run", *mode, *options, image.NAME, *args]
        run(argv, env=self._env, log=self.log, deadline=deadline)


def _hard_nofile() -> int:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return os.sysconf("SC_OPEN_MAX") if hard == resource.RLIM_INFINITY else hard
