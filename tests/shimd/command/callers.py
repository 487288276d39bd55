"""podman, dockerd and containerd as a test has them: Debian's, with asyncrt-oci in runc's place.

    with apart(folder) as caller:            a mount namespace of their own, the hybrid v2 tree unmounted (podman
        house = docker(caller, image)        refuses it); state directories in the folder; a parent cgroup of ours
        house.must("run", "--rm", house.image, "true")

Images are made here (one layer: the test root), networks are not.
"""

import hashlib
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.patience import until

SECONDS = 60.0
PARENT = f"asyncrt-oci-{os.getpid()}-callers"
ASYNCRT = Path(sys.executable).with_name("asyncrt-oci")


def needs(*programs: str) -> None:
    """Skip, by name, where a program is not there."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if not ASYNCRT.exists():
        pytest.skip(f"{ASYNCRT} is not installed (sh setup.sh)")


class Done(NamedTuple):
    """How a program ended."""

    code: int
    stdout: str
    stderr: str


class Caller:
    """Programs that run in a mount namespace of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: dict[str, str] = {}
        self.holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sleep", "1000"], stdin=subprocess.DEVNULL
        )
        until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"), "it is apart")
        until(lambda: b"sleep" in Path(f"/proc/{self.holder.pid}/cmdline").read_bytes()[:6], "unshare is done")
        self.run("umount", "/sys/fs/cgroup/unified")  # where there is one
        self.daemons: list[subprocess.Popen[bytes]] = []

    def words(self, *words: str) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-m", "--", *words]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.env}

    def run(self, *words: str) -> Done:
        done = subprocess.run(
            self.words(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env=self.environment(),
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str) -> str:
        done = self.run(*words)
        assert done.code == 0, f"{words}: {done.code}: {done.stderr}"
        return done.stdout

    def daemon(self, socket: Path, *words: str) -> None:
        with (self.folder / "daemon.log").open("a") as log:
            self.daemons.append(
                subprocess.Popen(self.words(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ)
            )
        until(socket.exists, f"{words[0]} listens; {self.folder}/daemon.log says more")

    def end_daemon(self, number: int = signal.SIGTERM) -> None:
        """End the last one and wait for it."""
        daemon = self.daemons.pop()
        daemon.send_signal(number)
        daemon.wait(30)

    def close(self) -> None:
        while self.daemons:
            self.end_daemon()
        self.holder.kill()
        self.holder.wait()
        for top in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            if (top / PARENT).is_dir():
                for path, _, _ in os.walk(top / PARENT, topdown=False):
                    with suppress(OSError):  # the leak counter tells of what stays, beside what went wrong before
                        os.rmdir(path)


@contextmanager
def apart(folder: Path) -> Iterator[Caller]:
    """A Caller, ended with what it started."""
    made = Caller(folder)
    try:
        yield made
    finally:
        made.close()


def at_a_terminal(caller: Caller, *words: str, typed: bytes, answer: bytes) -> tuple[int, bytes]:
    """A command at a terminal of ours: what is typed once it says `ready`, and everything until it says the answer."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        ["setsid", "--ctty", *caller.words(*words)],  # its own: Go's console package asks for no less
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=caller.environment(),
    )
    os.close(slave)
    seen, deadline = b"", time.monotonic() + SECONDS
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 1)[0]:
                continue
            try:
                seen += os.read(master, 4096)
            except OSError:  # EIO: it has ended
                break
            if b"ready\r\n" in seen and typed:
                os.write(master, typed)
                typed = b""
            if answer in seen:
                answer = b"\0"
        return child.wait(30), seen
    finally:
        os.close(master)
        child.kill()
        child.wait()


class House(NamedTuple):
    """A caller's command line, ready to run containers of one image."""

    name: str
    caller: Caller
    cli: Sequence[str]
    image: str
    options: Sequence[str]
    """Of each `run`."""
    state: Path
    """Where asyncrt-oci keeps these containers: its --root."""

    def __call__(self, *words: str) -> Done:
        return self.caller.run(*self.cli, *words)

    def must(self, *words: str) -> str:
        return self.caller.must(*self.cli, *words)

    def run(self, *words: str, options: Sequence[str] = ("--rm",)) -> Done:
        """A container with these options, before the image, of this program."""
        return self("run", "--cgroup-parent", f"/{PARENT}", *self.options, *options, self.image, *words)

    def start(self, name: str, *words: str, options: Sequence[str] = ()) -> None:
        """A container that stays."""
        done = self.run(*words, options=["-d", "--name", name, *options])
        assert done.code == 0, done.stderr

    def inspect(self, name: str, template: str) -> str:
        return self.must("inspect", "-f", template, name).strip()

    def empty(self) -> None:
        """Every container is removed; asyncrt-oci knows none any more."""
        ids = self.must("ps", "-aq").split()
        if ids:
            self.must("rm", "-f", *ids)
        assert os.listdir(self.state) == []


PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
conmon_env_vars = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
events_logger = "file"
lock_type = "file"
tmp_dir = "{home}/tmp"
runtime = "asyncrt-oci"
runtime_supports_json = ["asyncrt-oci"]
[engine.runtimes]
asyncrt-oci = ["{wrapper}"]
"""


def podman(caller: Caller, image: Path) -> House:
    """podman, which starts conmon, which calls the runtime."""
    needs("podman", "conmon")
    home = caller.folder
    # podman names no --root: a wrapper does, so that a test sees what is left there.
    wrapper = home / "asyncrt-oci"
    wrapper.write_text(f'#!/bin/sh\nexec {ASYNCRT} --root {home}/state "$@"\n')
    wrapper.chmod(0o755)
    (home / "containers.conf").write_text(PODMAN.format(home=home, wrapper=wrapper))
    (home / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/root"\nrunroot = "{home}/run"\n'
    )
    caller.env = {
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
    }
    cli = ["podman", "--runtime", "asyncrt-oci"]
    caller.must(*cli, "import", str(image), "test:latest")
    return House(
        "podman", caller, cli, "localhost/test:latest", ["--cgroups=no-conmon", "--stop-timeout=0"], home / "state"
    )


def docker(caller: Caller, image: Path) -> House:
    """docker, whose daemon tells containerd's shim, which calls the runtime."""
    needs("dockerd", "docker", "containerd", "containerd-shim-runc-v2")
    home = caller.folder
    settings = {
        "data-root": f"{home}/root",
        "exec-root": f"{home}/exec",
        "pidfile": f"{home}/pid",
        "hosts": [f"unix://{home}/sock"],
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "oom-score-adjust": 0,
        "iptables": False,
        "bridge": "none",
        "runtimes": {"asyncrt": {"path": str(ASYNCRT)}},
        "default-runtime": "asyncrt",
    }
    (home / "daemon.json").write_text(json.dumps(settings))
    (home / "config.json").write_text("{}")
    caller.env = {"DOCKER_HOST": f"unix://{home}/sock", "DOCKER_CONFIG": str(home)}
    start_dockerd(caller)
    caller.must("docker", "import", str(image), "test:latest")
    state = home / "exec/runtime-runc/moby"  # dockerd names it so for any runtime
    return House("docker", caller, ["docker"], "test:latest", ["--runtime", "asyncrt"], state)


def start_dockerd(caller: Caller) -> None:
    home = caller.folder
    (home / "sock").unlink(missing_ok=True)
    caller.daemon(home / "sock", "dockerd", "--config-file", str(home / "daemon.json"))
    until(lambda: caller.run("docker", "version").code == 0, "dockerd answers")


CONTAINERD = """
version = 2
root = "{home}/root"
state = "{home}/state"
oom_score = 0
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
address = "{home}/sock"
"""


def containerd(caller: Caller, image: Path) -> list[str]:
    """ctr's command line, once containerd answers and has the image."""
    needs("containerd", "ctr", "containerd-shim-runc-v2")
    home = caller.folder
    (home / "config.toml").write_text(CONTAINERD.format(home=home))
    caller.daemon(home / "sock", "containerd", "-c", str(home / "config.toml"))
    ctr = ["ctr", "-a", str(home / "sock")]
    until(lambda: caller.run(*ctr, "version").code == 0, "containerd answers")
    caller.must(*ctr, "image", "import", "--snapshotter", "overlayfs", str(oci_archive(image, home)))
    return ctr


def oci_archive(image: Path, folder: Path) -> Path:
    """An OCI layout of one layer, by hand: no tool of containerd's imports a bare tar."""
    blobs = folder / "layout/blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        kind = f"application/vnd.oci.image.{kind}"
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layer = blob(image.read_bytes(), "layer.v1.tar")
    rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"]}, "rootfs": rootfs}
    described = blob(json.dumps(config).encode(), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": described, "layers": [layer]}
    kind = "application/vnd.oci.image.manifest.v1+json"
    entry = blob(json.dumps({**manifest, "mediaType": kind}).encode(), "manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": "localhost/test:latest"}
    (folder / "layout/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "layout/oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    subprocess.run(["tar", "-C", str(folder / "layout"), "-cf", str(folder / "image.tar"), "."], check=True)
    return folder / "image.tar"
