"""NOTIFY_SOCKET: what the program says reaches who started the container, and start waits for it (sd_notify(3))."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import until
from tests.shimd.command.installed import installed, is_built
from tests.shimd.command.runtime import Runtime, cgroups_of
from tests.shimd.configs import MOUNTS, config, maps, mount, shell

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("cc"), reason="no compiler for the program inside")]

# The manager's socket lies below /tmp, and so does what the container finds.
INSIDE = [*MOUNTS, mount("tmpfs", "tmpfs", "/tmp", "mode=1777")]
C = f"asyncrt-oci-{os.getpid()}-notify"
SECONDS = 30.0


class Manager:
    """The end that systemd would have."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(str(path))
        self.line.settimeout(SECONDS)

    def hears(self) -> list[str]:
        """The lines of the next message."""
        return self.line.recv(4096).decode().split("\n")

    def is_told_nothing(self) -> bool:
        self.line.settimeout(0)
        try:
            self.line.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.line.settimeout(SECONDS)
        return False


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "manager")
    with contextlib.closing(made.line):
        yield made


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("programs")
    place.chmod(0o755)
    source = Path(__file__).with_name("ready.c")
    done = subprocess.run(["cc", "-static", "-o", place / "ready", source], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no static program can be built here: {done.stderr[-200:]}")
    return place


def says(programs: Path, *messages: str, **changes: Any) -> dict[str, Any]:
    """A program that tells its manager these."""
    mounts = [*INSIDE, mount("bind", programs, "/var", "bind", "ro")]
    return config("/var/ready", *messages, mounts=mounts, **changes)


def test_start_waits_until_the_program_is_ready(oci: Runtime, programs: Path, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(manager.path)}
    mounts = [*INSIDE, mount("bind", programs, "/var", "bind", "ro"), mount("bind", oci.folder, "/etc", "bind")]
    script = "/var/ready STATUS=soon; while ! [ -e /etc/go ]; do sleep 0.05; done; exec /var/ready READY=1 sleep"
    oci.must("create", "-b", str(oci.bundle(config("sh", "-c", script, mounts=mounts))), C, **env)
    with subprocess.Popen(oci.command("start", C), env={**os.environ, **env}) as start:
        assert manager.hears() == ["STATUS=soon"]
        assert start.poll() is None
        assert oci.status(C) == "running"  # nobody waits for who waits
        (oci.folder / "go").touch()
        assert manager.hears() == [f"MAINPID={oci.state(C)['pid']}", "READY=1"]
        assert start.wait(SECONDS) == 0
    assert manager.is_told_nothing()
    oci.must("delete", "-f", C)
    assert not (oci.root / C).exists()
    assert cgroups_of(C) == []


def test_a_detached_run_waits_too(oci: Runtime, programs: Path, manager: Manager) -> None:
    place = str(oci.bundle(says(programs, "READY=1", "sleep")))
    oci.must("run", "-d", "-b", place, C, NOTIFY_SOCKET=str(manager.path))
    assert manager.hears() == [f"MAINPID={oci.state(C)['pid']}", "READY=1"]


def test_a_program_that_ends_is_waited_for_no_longer(oci: Runtime, programs: Path, manager: Manager) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(says(programs, "end"))), C, NOTIFY_SOCKET=str(manager.path))
    assert manager.is_told_nothing()
    oci.must("delete", C)
    oci.must("run", "-d", "-b", str(oci.bundle(says(programs, "READY=1", "end"))), C, NOTIFY_SOCKET=str(manager.path))
    assert manager.hears()[1:] == ["READY=1"]


def test_a_run_in_the_foreground_hands_on_what_is_about_the_state(
    oci: Runtime, programs: Path, manager: Manager
) -> None:
    """And stays the main process: a number of the container's, or what is to be kept for it, is not passed."""
    messages = (
        "MAINPID=1\nREADY=1\nFDSTORE=1",
        "STATUS=works\nNOTIFYACCESS=all",
        "WATCHDOG_USEC=1",
        "WATCHDOG=1",
        "sleep",
    )
    command = oci.command("run", "-b", str(oci.bundle(says(programs, *messages))), C)
    with subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(manager.path)}) as run:
        assert [manager.hears() for _ in range(3)] == [["READY=1"], ["STATUS=works"], ["WATCHDOG=1"]]
        run.send_signal(signal.SIGTERM)
        until(lambda: oci("kill", C, "KILL").code == 0 or run.poll() is not None, "it is killed")
        assert run.wait(SECONDS) == 128 + 9
    assert oci.ids() == []


def test_what_the_program_sees(oci: Runtime, manager: Manager, tmp_path: Path) -> None:
    """A directory with nothing but the socket, which it cannot write; by the name that the manager's has."""
    script = f"echo $NOTIFY_SOCKET; ls {manager.path}; touch {manager.path}/x 2>&1; stat -c %F $NOTIFY_SOCKET"
    result = oci.must("run", "-b", str(oci.bundle(shell(script, mounts=INSIDE))), C, NOTIFY_SOCKET=str(manager.path))
    place = f"{manager.path}/notify"
    assert result.stdout.splitlines() == [
        *(place, "notify", f"touch: {manager.path}/x: Read-only file system", "socket"),
    ]


def test_another_user_and_a_user_namespace(oci: Runtime, programs: Path, manager: Manager) -> None:
    user = {"user": {"uid": 1000, "gid": 1000}}
    place = str(oci.bundle(says(programs, "READY=1", "end", process=user)))
    oci.must("run", "-d", "-b", place, C, NOTIFY_SOCKET=str(manager.path))
    assert manager.hears()[1:] == ["READY=1"]
    spaces = ("mount", "pid", "network", "ipc", "uts", "user")
    document = says(programs, "READY=1", "end", namespaces=spaces, linux=maps(100000))
    document["mounts"] = [entry for entry in document["mounts"] if entry["type"] in ("proc", "bind", "tmpfs")]
    oci.must("run", "-d", "-b", str(oci.bundle(document)), f"{C}-user", NOTIFY_SOCKET=str(manager.path))
    assert manager.hears()[1:] == ["READY=1"]


def test_a_socket_of_the_configs_own_stays(oci: Runtime, manager: Manager) -> None:
    """podman stands between by a socket of its own."""
    own = shell("echo $NOTIFY_SOCKET", process={"env": ["PATH=/bin", "NOTIFY_SOCKET=/own"]})
    result = oci.must("run", "-b", str(oci.bundle(own)), C, NOTIFY_SOCKET=str(manager.path))
    assert result.stdout == "/own\n"


def test_nothing_of_it_without_a_manager(oci: Runtime) -> None:
    for word in ("", "relative", "vsock:2:9999"):
        place = str(oci.bundle(shell("echo [$NOTIFY_SOCKET]")))
        assert oci.must("run", "-b", place, C, NOTIFY_SOCKET=word).stdout == "[]\n"


def test_a_manager_that_went_is_a_warning(oci: Runtime, programs: Path, tmp_path: Path) -> None:
    place = str(oci.bundle(says(programs, "READY=1", "end")))
    result = oci.must("run", "-d", "-b", place, C, NOTIFY_SOCKET=str(tmp_path / "gone"))
    assert result.warnings == f"notify {tmp_path / 'gone'}: no such file or directory"


def test_a_container_of_a_manager_is_deleted_whole_by_who_has_none(
    oci: Runtime, programs: Path, manager: Manager
) -> None:
    oci.must("create", "-b", str(oci.bundle(says(programs, "READY=1", "sleep"))), C, NOTIFY_SOCKET=str(manager.path))
    oci.must("start", C)
    # Its socket is not there: it said so and ended.
    oci.await_status(C, "stopped")
    oci.must("delete", C)
    assert not (oci.root / C).exists()


@pytest.mark.skipif(not is_built(), reason="the front is not built for this machine")
def test_the_front_leaves_it_to_the_reference(rootfs: Path, programs: Path, manager: Manager) -> None:
    with installed(rootfs) as oci:
        oci.warm()
        env = {"NOTIFY_SOCKET": str(manager.path)}
        oci.must("create", "-b", str(oci.bundle(says(programs, "READY=1", "sleep"))), C, **env)
        oci.must("start", C, **env)
        assert manager.hears() == [f"MAINPID={oci.state(C)['pid']}", "READY=1"]
        assert oci.asked() == ["create", "start", "state"]
        oci.must("delete", "--force", C)
        assert oci.asked() == ["delete"]
        assert not (oci.root / C).exists()


def test_the_record_says_nothing_of_it(oci: Runtime, manager: Manager) -> None:
    """exec has the config that the bundle had: no mount of ours in it."""
    oci.must("create", "-b", str(oci.bundle(shell("true", mounts=INSIDE))), C, NOTIFY_SOCKET=str(manager.path))
    kept = json.loads((oci.root / C / "config.json").read_text())
    assert str(manager.path) not in json.dumps(kept)
