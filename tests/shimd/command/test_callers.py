"""podman, containerd and dockerd with asyncrt-oci in runc's place: run, exec, stop, remove, exit codes, logs.

They are Debian's, run in a mount namespace of their own (with the hybrid v2 tree unmounted, which podman refuses), on
state directories of their own. Images are made here, networks are not.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from shimd.command.version import version
from tests.patience import until

pytestmark = [pytest.mark.root, pytest.mark.slow]

SECONDS = 60.0
PARENT = f"asyncrt-oci-{os.getpid()}-callers"
ASYNCRT = Path(sys.executable).with_name("asyncrt-oci")
MISSING = 'exec: "no-such-program": executable file not found in $PATH'


def needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if not ASYNCRT.exists():
        pytest.skip(f"{ASYNCRT} is not installed (sh setup.sh)")


class Done:
    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr


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

    def run(self, *words: str) -> Done:
        done = subprocess.run(
            self.words(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, **self.env},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def must(self, *words: str) -> str:
        done = self.run(*words)
        assert done.code == 0, f"{words}: {done.code}: {done.stderr}"
        return done.stdout

    def daemon(self, socket: Path, *words: str) -> None:
        with (self.folder / "daemon.log").open("w") as log:
            self.daemons.append(
                subprocess.Popen(self.words(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ)
            )
        until(socket.exists, f"{words[0]} listens; {self.folder}/daemon.log says more")

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.terminate()
            daemon.wait(30)
        self.holder.kill()
        self.holder.wait()
        for top in Path("/sys/fs/cgroup").iterdir():
            if (top / PARENT).is_dir():
                for path, _, _ in os.walk(top / PARENT, topdown=False):
                    os.rmdir(path)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    made = Caller(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def image(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test root as one layer's tar."""
    path = tmp_path_factory.mktemp("image") / "rootfs.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(path), "."], check=True)
    return path


def confinement() -> list[str]:
    """Nothing, once seccomp is built; else the caller's profile is left out."""
    said = subprocess.run([ASYNCRT, "features"], check=True, capture_output=True).stdout
    enabled = json.loads(said)["linux"]["seccomp"]["enabled"]
    return [] if enabled else ["--security-opt", "seccomp=unconfined"]


def the_usual(cli: Sequence[str], caller: Caller, options: Sequence[str], name: str) -> None:
    """What podman and docker spell alike."""
    run = [*cli, "run", "--net", "none", f"--cgroup-parent=/{PARENT}", *confinement(), *options]
    assert caller.must(*run, "--rm", name, "echo", "hello") == "hello\n"
    assert caller.run(*run, "--rm", name, "sh", "-c", "exit 7").code == 7
    missing = caller.run(*run, "--rm", name, "no-such-program")
    assert missing.code == 127
    assert MISSING in missing.stderr
    caller.must(*run, "-d", "--name", "one", "-m", "64m", name, "sh", "-c", "echo out; echo err >&2; sleep 1000")
    done = caller.run(*cli, "exec", "one", "sh", "-c", "echo in; exit 4")
    assert (done.code, done.stdout) == (4, "in\n")
    missing = caller.run(*cli, "exec", "one", "no-such-program")
    assert missing.code in (126, 127)  # docker's 20.10 says 126, and on stdout, with any runtime
    assert MISSING in missing.stdout + missing.stderr
    limits = "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"
    assert caller.run(*cli, "exec", "one", "cat", *limits).stdout.split() == [str(64 << 20)]
    logs = caller.run(*cli, "logs", "one")
    assert "out\n" in logs.stdout + logs.stderr
    assert "err\n" in logs.stdout + logs.stderr
    caller.must(*cli, "pause", "one")
    assert caller.must(*cli, "inspect", "-f", "{{.State.Status}}", "one") == "paused\n"
    caller.must(*cli, "unpause", "one")
    caller.must(*cli, "stop", "-t", "1", "one")
    assert caller.must(*cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 137\n"
    caller.must(*cli, "start", "one")
    assert caller.must(*cli, "exec", "one", "echo", "again") == "again\n"
    caller.must(*cli, "rm", "-f", "one")
    assert caller.must(*cli, "ps", "-aq") == ""


def test_podman(caller: Caller, image: Path) -> None:
    needs("podman", "conmon")
    home = caller.folder
    (home / "containers.conf").write_text(
        f"""
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
asyncrt-oci = ["{ASYNCRT}"]
"""
    )
    (home / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{home}/root"\nrunroot = "{home}/run"\n'
    )
    caller.env = {
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
    }
    podman = ["podman", "--runtime", "asyncrt-oci"]
    caller.must(*podman, "import", str(image), "test:latest")
    the_usual(podman, caller, ["--cgroups=no-conmon"], "localhost/test:latest")


def test_dockerd(caller: Caller, image: Path) -> None:
    needs("dockerd", "docker", "containerd")
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
    caller.daemon(home / "sock", "dockerd", "--config-file", str(home / "daemon.json"))
    parts = json.loads(caller.must("docker", "version", "-f", "{{json .Server.Components}}"))
    versions = {part["Name"]: (part["Version"], part["Details"]["GitCommit"]) for part in parts}
    assert versions["asyncrt"] == (version(), version())
    caller.must("docker", "import", str(image), "test:latest")
    the_usual(["docker"], caller, ["--runtime", "asyncrt"], "test:latest")


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


def oci_archive(image: Path, folder: Path) -> Path:
    """An OCI layout of one layer, by hand: no tool of containerd's imports a bare tar."""
    import hashlib

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


def test_containerd(caller: Caller, image: Path) -> None:
    needs("containerd", "ctr", "containerd-shim-runc-v2")
    home = caller.folder
    (home / "config.toml").write_text(CONTAINERD.format(home=home))
    caller.daemon(home / "sock", "containerd", "-c", str(home / "config.toml"))
    ctr = ["ctr", "-a", str(home / "sock")]
    until(lambda: caller.run(*ctr, "version").code == 0, "containerd answers")
    caller.must(*ctr, "image", "import", "--snapshotter", "overlayfs", str(oci_archive(image, home)))
    runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", str(ASYNCRT)]

    def run(id: str, *words: str, options: Sequence[str] = ("--rm",)) -> Done:
        place = ["--cgroup", f"/{PARENT}/{id}"]
        return caller.run(*ctr, "run", *options, *runtime, *place, "localhost/test:latest", id, *words)

    assert run("a", "echo", "hello").stdout == "hello\n"
    assert run("b", "sh", "-c", "exit 7").code == 7
    assert MISSING in run("c", "no-such-program").stderr
    caller.run(*ctr, "container", "rm", "c")
    started = run("d", "sleep", "1000", options=("-d",))
    assert started.code == 0, started.stderr
    done = caller.run(*ctr, "task", "exec", "--exec-id", "e", "d", "sh", "-c", "echo in; exit 4")
    assert (done.code, done.stdout) == (4, "in\n")
    assert MISSING in caller.run(*ctr, "task", "exec", "--exec-id", "f", "d", "no-such-program").stderr

    def status() -> str:
        return caller.must(*ctr, "task", "ls").splitlines()[1].split()[2]

    caller.must(*ctr, "task", "pause", "d")
    assert status() == "PAUSED"
    caller.must(*ctr, "task", "resume", "d")
    assert "d" in caller.must(*ctr, "task", "metrics", "d")
    caller.must(*ctr, "task", "kill", "-s", "KILL", "d")
    until(lambda: status() == "STOPPED", "it stopped")
    caller.run(*ctr, "task", "rm", "d")
    caller.must(*ctr, "container", "rm", "d")
    assert caller.must(*ctr, "container", "ls", "-q") == ""
    time.sleep(0.2)  # its shim goes after its answer
