"""What the benches stand on: private namespaces, an image, and the peers that are installed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from bench import image, keeper, machine
from bench.peers.asyncrt import Asyncrt
from bench.peers.containerd import Containerd
from bench.peers.docker import Docker
from bench.peers.oci import OciRuntime
from bench.peers.peer import Peer, Site
from bench.peers.podman import Podman
from bench.process import BenchError


def prepare(work: Path, cgroup_parent: str, asyncrt: str | None, parallel: int = 1) -> Site:
    """Everything that peers share; this process is in namespaces of its own from here on."""
    host_mounts = machine.enter_private_namespaces()
    rootfs, archive = work / "rootfs", work / "image.tar"
    image.make_rootfs(rootfs)
    image.make_archive(rootfs, archive)
    (work / "home").mkdir()
    env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work / "home"), "LC_ALL": "C.UTF-8"}
    if "/usr/sbin" not in env["PATH"].split(":"):
        env["PATH"] += ":/usr/sbin:/sbin"
    program = None if asyncrt is None else str(Path(asyncrt).absolute())
    return Site(work, rootfs, archive, cgroup_parent, parallel, host_mounts, program, env)


def present(site: Site, wanted: list[str], kinds: list[str]) -> list[Peer]:
    """Those of `kinds` that are asked for and installed; of the others stderr says why not."""
    made: dict[str, Callable[[], Peer]] = {
        "asyncrt": lambda: Asyncrt(site, "single"),
        "crun": lambda: OciRuntime(site, "crun"),
        "podman": lambda: Podman(site),
        "containerd": lambda: Containerd(site),
        "docker": lambda: Docker(site),
    }
    found = []
    for name in kinds:
        peer = made[name]()
        reason = "not asked for" if wanted and name not in wanted else peer.missing()
        if reason is None:
            found.append(peer)
        else:
            print(f"bench: skipping {name}: {reason}", file=sys.stderr)
    return found


def options(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"bench/{name}.py", description=about)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[], help="only these, by name")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, medians are shown (3)")
    parser.add_argument("--asyncrt", metavar="PATH", help="the asyncrt program (default: beside the interpreter)")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="where the run's own folder is made")
    return parser


def run(given: argparse.Namespace, bench: Callable[[Site], int]) -> int:
    """The bench under the keeper, which ends and removes what it leaves. Exit codes: 0 done, 1 not begun."""

    def inside() -> int:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        try:
            return bench(prepare(work, parent, given.asyncrt))
        except (BenchError, OSError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1

    try:
        machine.require_root()
        work = Path(tempfile.mkdtemp(prefix="asyncrt-bench-", dir=given.work))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    parent = f"/asyncrt-bench-{os.getpid()}"
    return keeper.keep(work, parent, inside)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
