"""The config of a container, compared with Docker's."""

from pathlib import Path
from typing import Any

import pytest

from asyncrt.engine import defaults
from asyncrt.engine.policy import config_for, exec_process
from asyncrt.errors import BadRequest
from asyncrt.model.options import ExecOptions, Options, Volume
from asyncrt.snapshots.sources import Source
from shimd.spec import decode, validate
from shimd.spec.config import Config, Process, User

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# moby, daemon/pkg/oci/defaults.go (commit 23f2c12): defaultLinuxMaskedPaths and DefaultLinuxSpec, typed off.
DOCKER_MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
]
DOCKER_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
DOCKER_MOUNTS = {
    "/proc": "proc proc nosuid,noexec,nodev",
    "/dev": "tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
    "/dev/pts": "devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
    "/sys": "sysfs sysfs nosuid,noexec,nodev,ro",
    "/sys/fs/cgroup": "cgroup cgroup ro,nosuid,noexec,nodev",
    "/dev/mqueue": "mqueue mqueue nosuid,noexec,nodev",
    # The size is added in daemon/oci_linux.go, from --shm-size (64 MiB).
    "/dev/shm": "tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    (image / "etc/group").write_text("audio:x:29:app\n")
    return Source("rootfs", str(image))


def config(source: Source, **asked: Any) -> Config:
    asked.setdefault("args", ("sleep", "600"))
    return config_for(Options(image="x", **asked), source, Path("/var/lib/asyncrt"), Path("/run/asyncrt"))


def process(source: Source, **asked: Any) -> Process:
    made = config(source, **asked).process
    assert made is not None
    return made


def test_confinement_is_dockers(source: Source) -> None:
    made = config(source)
    assert [path for path in made.linux.masked_paths if "thermal_throttle" not in path] == DOCKER_MASKED
    assert list(made.linux.readonly_paths) == DOCKER_READONLY
    assert {
        mount.destination: f"{mount.type} {mount.source} {','.join(mount.options)}" for mount in made.mounts
    } == DOCKER_MOUNTS
    assert [mount.destination for mount in made.mounts] == list(DOCKER_MOUNTS)
    namespaces = {(namespace.type, namespace.path) for namespace in made.linux.namespaces}
    assert namespaces == {(type, "") for type in ("mount", "pid", "network", "ipc", "uts", "cgroup")}


def test_the_template_has_nothing_of_one_container(source: Source) -> None:
    made = config(source)
    assert (made.root.path, made.root.readonly, made.hostname, made.linux.cgroups_path) == (
        "rootfs",
        False,
        "",
        "",
    )
    assert made.process is not None
    assert made.process.args == ("sleep", "600")
    assert made.process.env == (PATH, "HOME=/root")
    assert made.process.cwd == "/"
    assert made.process.user == User(0, 0, additional_gids=(0,))


def test_every_config_stands_the_specs_own_test(source: Source, tmp_path: Path) -> None:
    made = config(
        source,
        cap_add=("ALL",),
        user="app",
        memory=64 << 20,
        cpus=0.5,
        pids_limit=10,
        cpuset_cpus="0",
        hostname="box.example",
        read_only=True,
        env=("A=b",),
        workdir="/srv",
        volumes=(Volume(str(tmp_path), "/data"),),
    )
    told: list[Any] = []
    assert validate.load(decode.encode(made), told.append) == made
    assert told == []
    assert made.root.readonly
    assert made.hostname == "box.example"


def test_the_machines_own_root_hides_the_engine(tmp_path: Path) -> None:
    root, state = tmp_path / "root", tmp_path / "state"
    for directory in (root, state):
        directory.mkdir()
    made = config_for(Options(image="host:", args=("true",)), Source("host", "/"), root, state)
    assert made.linux.masked_paths[-2:] == (str(root), str(state))


def test_a_user_who_is_not_root_has_only_the_bounding_set(source: Source) -> None:
    made = process(source, user="app")
    assert made.user == User(1000, 1001, additional_gids=(1001, 29))
    assert made.env == (PATH, "HOME=/home/app")
    assert made.capabilities is not None
    assert made.capabilities.bounding == defaults.CAPABILITIES
    assert made.capabilities.permitted == made.capabilities.effective == ()


def test_the_environment_is_overridden_by_name(source: Source) -> None:
    asked = ("A=1", "HOME=/mine", "B=", "A=2=3", "PATH=/bin")
    assert process(source, env=asked).env == ("PATH=/bin", "HOME=/mine", "A=2=3", "B=")


def test_entrypoint_and_args(source: Source) -> None:
    assert process(source, entrypoint=("env", "-i"), args=("sh",)).args == ("env", "-i", "sh")
    assert process(source, entrypoint=("sh",), args=()).args == ("sh",)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"args": ()}, "no command given: the image names none"),
        ({"args": ("",)}, "no command given"),
        ({"args": ("sh", "a\0b")}, "read command: there is a NUL character in it"),
        ({"env": ("NAME",)}, 'read --env: "NAME" is no NAME=VALUE'),
        ({"env": ("=value",)}, "is no NAME=VALUE"),
        ({"env": ("A=b\0C=d",)}, "NUL"),
        ({"workdir": "srv"}, 'read --workdir: "srv" is no absolute path'),
        ({"workdir": "/s\0"}, "NUL"),
        ({"hostname": "a b"}, 'read --hostname: "a b" is no host name'),
        ({"hostname": "a/b"}, "--hostname"),
        ({"hostname": "-a"}, "--hostname"),
        ({"hostname": "a" * 65}, "--hostname"),
        ({"user": "nobody"}, 'find user "nobody"'),
        ({"cap_add": ("X",)}, "--cap-add"),
        ({"memory": 1}, "--memory"),
    ],
)
def test_what_makes_no_sense_is_refused(source: Source, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        config(source, **asked)


def test_an_exec_is_as_the_container_where_nothing_else_is_asked(source: Source) -> None:
    base = process(source, user="app", env=("A=1",), workdir="/srv")._replace(terminal=True)
    made = exec_process(ExecOptions(("ls",)), base, source.path)
    assert made == base._replace(args=("ls",), terminal=False)


def test_an_exec_has_its_own_environment_and_directory(source: Source) -> None:
    made = exec_process(ExecOptions(("ls",), env=("A=2", "B=3"), workdir="/tmp"), process(source, env=("A=1",)), 0)
    assert made.env == (PATH, "HOME=/root", "A=2", "B=3")
    assert made.cwd == "/tmp"


def test_an_exec_as_another_user(source: Source) -> None:
    base = process(source, user="app", cap_drop=("KILL",))
    root = exec_process(ExecOptions(("id",), user="root"), base, source.path)
    assert root.user == User(0, 0, additional_gids=(0,))
    assert root.env == (PATH, "HOME=/root")
    assert base.capabilities is not None
    assert root.capabilities is not None
    assert root.capabilities.effective == root.capabilities.permitted == base.capabilities.bounding
    assert "CAP_KILL" not in root.capabilities.effective
    again = exec_process(ExecOptions(("id",), user="app"), root, source.path)
    assert again.capabilities == base.capabilities


def test_a_home_that_was_asked_for_stays(source: Source) -> None:
    asked = ("HOME=/mine",)
    base = process(source, env=asked)
    assert exec_process(ExecOptions(("id",), user="app"), base, source.path, asked).env == (
        PATH,
        "HOME=/mine",
    )
    own = ExecOptions(("id",), user="app", env=("HOME=/own",))
    assert exec_process(own, base, source.path, asked).env == (PATH, "HOME=/own")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ExecOptions(()), "no command given"),
        (ExecOptions(("ls",), env=("A",)), "--env"),
        (ExecOptions(("ls",), workdir="x"), "--workdir"),
        (ExecOptions(("ls",), user="4294967295"), "the user id is too big"),
    ],
)
def test_an_exec_that_makes_no_sense(source: Source, options: ExecOptions, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        exec_process(options, process(source), source.path)
