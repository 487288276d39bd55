"""crun and runc: no daemon, no image; a bundle and an overlay root are made for every container."""

from __future__ import annotations

import shutil

from bench import image
from bench.machine import mount, umount
from bench.peers.peer import Peer, Site
from bench.process import crowd, run


class OciRuntime(Peer):
    """An OCI runtime with runc's command line. Making and removing the bundle is part of what is measured."""

    driven = "one command a container: overlay and bundle made by the bench, then `run --detach`, `delete -f`"

    def __init__(self, site: Site, name: str) -> None:
        self.name, self.tools = name, (name,)
        super().__init__(site)
        self._base = ["--root", str(self.folder / "state")]
        if name == "crun":
            self._base += ["--cgroup-manager", "cgroupfs"]

    def start(self, count: int, deadline: float) -> None:
        self.live = self.names(count)
        tool = self.tool(self.name)

        def one(name: str) -> None:
            self._make_bundle(name, image.SLEEP)
            bundle = str(self.folder / name)
            argv = [tool, *self._base, "run", "--detach", "--bundle", bundle, name]
            run(argv, env=self.site.env, log=self.log, deadline=deadline)

        crowd(self.live, one, self.site.parallel)

    def remove(self, deadline: float) -> None:
        tool = self.tool(self.name)

        def one(name: str) -> None:
            argv = [tool, *self._base, "delete", "--force", name]
            run(argv, env=self.site.env, log=self.log, deadline=deadline)
            self._remove_bundle(name)

        crowd(self.live, one, self.site.parallel)
        self.live = []

    def complete(self, count: int, deadline: float) -> None:
        tool = self.tool(self.name)

        def one(name: str) -> None:
            self._make_bundle(name, image.TRUE)
            argv = [tool, *self._base, "run", "--bundle", str(self.folder / name), name]
            run(argv, env=self.site.env, log=self.log, deadline=deadline)
            self._remove_bundle(name)

        crowd(self.names(count), one, self.site.parallel)

    def entering(self, name: str, args: list[str]) -> tuple[list[str], dict[str, str]]:
        return [self.tool(self.name), *self._base, "exec", name, *args], dict(self.site.env)

    def _make_bundle(self, name: str, args: list[str]) -> None:
        bundle = self.folder / name
        upper, work, root = (bundle / part for part in ("upper", "work", "rootfs"))
        for folder in (bundle, upper, work, root):
            folder.mkdir()
        mount("overlay", str(root), "overlay", 0, f"lowerdir={self.site.rootfs},upperdir={upper},workdir={work}")
        config = image.bundle_config(str(root), f"{self.cgroup}/{name}", args)
        (bundle / "config.json").write_text(config)

    def _remove_bundle(self, name: str) -> None:
        umount(str(self.folder / name / "rootfs"))
        shutil.rmtree(self.folder / name)
