"""A bundle for one test, and what became of it.

bundle.config["hostname"] = "box"
facts = bundle.report()                  runs the witness (witness.c) and reads what it saw
container = bundle.create()              or step by step: container.start(), .state(), .kill(), .delete()
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.runtime import SLOWNESS, Done, Runtime

SECONDS = 20.0 * SLOWNESS
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
FOLDERS = ("proc", "sys", "dev", "tmp", "etc", "mnt", "data", "root")

Facts = dict[str, str]


def config(cgroups_path: str) -> dict[str, Any]:
    """The document that tests change: what config-linux.md calls the default file systems, and new namespaces."""
    quiet = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/witness", "report"],
            "env": ["PATH=/", "HOME=/root"],
            "cwd": "/",
            "capabilities": {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")},
        },
        "hostname": "conformance",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*quiet, "mode=1777"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "cgroupsPath": cgroups_path,
        },
    }


def read(text: str) -> Facts:
    """The witness's lines as a dictionary; an ``env`` line is kept by its variable: ``env PATH``."""
    return dict(line.rstrip("\r").split("=", 1) for line in text.split("\n") if "=" in line)


class Container:
    """A container that ``create`` was asked for."""

    def __init__(self, bundle: "Bundle", id: str, created: Done) -> None:
        self.bundle, self.id, self.created = bundle, id, created

    def start(self) -> Done:
        return self.bundle.runtime("start", self.id)

    def state(self) -> dict[str, Any]:
        """The state document; AssertionError where the runtime has none."""
        document: dict[str, Any] = json.loads(self.bundle.runtime("state", self.id).ok().out)
        return document

    def kill(self, signal: str = "KILL") -> Done:
        return self.bundle.runtime("kill", self.id, signal)

    def delete(self, *flags: str) -> Done:
        return self.bundle.runtime("delete", *flags, self.id)

    def exists(self) -> bool:
        return self.bundle.runtime("state", self.id).code == 0

    def wait(self, status: str) -> None:
        """Until the state says this status."""
        until(lambda: self.state()["status"] == status, f"{self.id} is {status}")

    def ended(self) -> "Container":
        """This, once its process has exited."""
        self.wait("stopped")
        return self

    def output(self) -> str:
        """What its process wrote so far, stdout and stderr together."""
        return (self.bundle.path / f"{self.id}.out").read_text(errors="replace")

    def facts(self) -> Facts:
        return read(self.output())


class Bundle:
    """A directory with config.json and rootfs/witness, and the ids that were used with it."""

    def __init__(self, path: Path, runtime: Runtime, witness: Path, cgroup: str) -> None:
        self.path, self.runtime, self.cgroup = path, runtime, cgroup
        self.rootfs = path / "rootfs"
        self.config = config(f"{cgroup}/{path.name}")
        self._ids: list[str] = []
        for folder in FOLDERS:
            (self.rootfs / folder).mkdir(parents=True)
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy(witness, self.rootfs / "witness")

    @property
    def process(self) -> dict[str, Any]:
        process: dict[str, Any] = self.config["process"]
        return process

    @property
    def linux(self) -> dict[str, Any]:
        linux: dict[str, Any] = self.config["linux"]
        return linux

    def does(self, *words: str) -> "Bundle":
        """Sets the witness's words."""
        self.process["args"] = ["/witness", *words]
        return self

    def mount(self, destination: str, type: str, source: str, *options: str, **more: Any) -> "Bundle":
        """Appends a mount."""
        entry = {"destination": destination, "type": type, "source": source, "options": list(options), **more}
        self.config["mounts"].append(entry)
        return self

    def without(self, destination: str) -> "Bundle":
        """Takes a mount out."""
        self.config["mounts"] = [entry for entry in self.config["mounts"] if entry["destination"] != destination]
        return self

    def namespace(self, type: str, **entry: str) -> "Bundle":
        """A namespace entry in place of the one of its type, or added."""
        others = [other for other in self.linux["namespaces"] if other["type"] != type]
        self.linux["namespaces"] = [*others, {"type": type, **entry}]
        return self

    def without_namespace(self, type: str) -> "Bundle":
        self.linux["namespaces"] = [entry for entry in self.linux["namespaces"] if entry["type"] != type]
        return self

    def user_namespace(self) -> "Bundle":
        """A user namespace whose root is 100000 outside; the root file system is handed to it."""
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        self.linux.update(uidMappings=mapping, gidMappings=mapping)
        for path in [self.path, self.rootfs, *self.rootfs.rglob("*")]:
            os.chown(path, 100000, 100000, follow_symlinks=False)
        return self.namespace("user")

    def write(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config, indent=1))

    def id(self) -> str:
        """A new id, whose container is removed at the end whatever happens."""
        self._ids.append(f"{self.path.name}-{len(self._ids)}")
        return self._ids[-1]

    def run(self, *flags: str, **how: Any) -> Done:
        """Create, start, wait, delete: in the foreground."""
        self.write()
        return self.runtime("run", *flags, "--bundle", str(self.path), self.id(), **how)

    def report(self, *flags: str, **how: Any) -> Facts:
        """What the witness saw, in a container that ended well."""
        return read(self.run(*flags, **how).ok().out)

    def refused(self) -> Done:
        """The error that create must generate; nothing of the container may be left."""
        container = self.attempt()
        container.created.refused()
        assert not container.exists(), "create failed, and the container exists"
        return container.created._replace(err=container.output())

    def attempt(self, *flags: str, id: str = "", **how: Any) -> Container:
        """A create, whatever comes of it."""
        self.write()
        id = id or self.id()
        with (self.path / f"{id}.out").open("wb") as output:
            words = ("create", *flags, "--bundle", str(self.path), id)
            return Container(self, id, self.runtime(*words, stdout=output.fileno(), **how))

    def create(self, *flags: str, **how: Any) -> Container:
        """A create that succeeded."""
        container = self.attempt(*flags, **how)
        assert container.created.code == 0, container.output()
        return container

    def started(self, *flags: str, **how: Any) -> Container:
        """A container whose process was started."""
        container = self.create(*flags, **how)
        container.start().ok()
        return container

    def close(self) -> None:
        """Takes back everything, after a test of any outcome."""
        for id in self._ids:
            if self.runtime("state", id).code == 0:
                self.runtime("delete", "--force", id)
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.path)


def cgroup_mounts() -> dict[str, Path]:
    """Controller (v1), or "" for cgroup v2, to the place where it is mounted on the machine."""
    places = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            places.setdefault("", Path(left.split()[4]))
        elif kind == "cgroup":
            places |= dict.fromkeys(options.split(","), Path(left.split()[4]))
    return places


def cgroup_of(pid: int, controller: str) -> Path:
    """The directory of a process's cgroup; on cgroup v2 every controller's is the same."""
    mounts = cgroup_mounts()
    wanted = controller if controller in mounts else ""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if wanted in controllers.split(","):
            return mounts[wanted] / path.lstrip("/")
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def remove_cgroups(path: str) -> None:
    """Removes a cgroup with its children from every hierarchy. Processes in them were killed before."""
    for mount in set(cgroup_mounts().values()):
        top = mount / path.lstrip("/")
        for folder, _, _ in os.walk(top, topdown=False):
            until(lambda folder=folder: _removed(folder), f"{folder} can be removed")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def until(fact: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
    """Waits for a fact; AssertionError names it when it does not come."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def static_program(source: Path, target: Path) -> Path:
    """The C program, built so that it needs no library."""
    words = ["cc", "-O1", "-Wall", "-static", "-o", str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return target


def needs_id_maps(place: Path) -> None:
    """Skip where the file system of the bundles takes no id map: a tmpfs took its first with Linux 6.3."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", place], check=True, capture_output=True, text=True).stdout.strip()
    release = tuple(int(word) for word in os.uname().release.split("-")[0].split(".")[:2])
    if kind == "tmpfs" and release < (6, 3):
        pytest.skip("a tmpfs takes no id map on this kernel")
