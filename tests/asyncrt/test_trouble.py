"""Bad input and bad machines: one clear line that names deed, subject and cause, non-zero, nothing left behind."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import watch
from tests.engine import CLI, Engine
from tests.patience import until

pytestmark = pytest.mark.root


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """One line on stderr with all parts, nothing on stdout."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if "started the supervisor" not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("asyncrt: ")
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0], lines[0]
    assert done.stdout == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 400 inodes and 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=400", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["127.0.0.1:1/alpine", "true"], ["pull manifest 127.0.0.1:1/alpine:latest: no connection"]),
        (["oci:/x", "true"], ["read image 'oci:/x': 'oci:' is no host (write HOST, HOST:PORT or [V6-ADDRESS]:PORT)"]),
        (["rootfs:/no/such/place", "true"], ["find image rootfs:/no/such/place: the directory does not exist"]),
        (["rootfs:relative", "true"], ["find image rootfs:relative:", "no absolute path"]),
        (["rootfs:/etc/passwd", "true"], ["find image rootfs:/etc/passwd: it is no directory"]),
        (["host:/x", "true"], ["find image host:/x: host: takes no path"]),
        (["IMAGE"], ["no command given"]),
        (["-u", "nobody-knows", "IMAGE", "true"], ['find user "nobody-knows"', "no such entry"]),
        (["-u", "root:nogrp", "IMAGE", "true"], ['find group "nogrp"', "no such entry"]),
        (["-w", "relative", "IMAGE", "true"], ['read --workdir: "relative" is not absolute']),
        (["-w", "/bin/sh", "IMAGE", "true"], ["/bin/sh"]),
        (["--memory", "lots", "IMAGE", "true"], ['read --memory: "lots" is no size (write it as 512m or 1.5g)']),
        (["--memory", "1k", "IMAGE", "true"], ['read --memory: "1k" is too small']),
        (["--cpus", "many", "IMAGE", "true"], ['read --cpus: "many" is no number of cpus']),
        (["--cpus", "9999", "IMAGE", "true"], ["read --cpus: 9999 cannot be given"]),
        (["--cpuset-cpus", "0-", "IMAGE", "true"], ["read --cpuset-cpus"]),
        (["--cpuset-cpus", "4000", "IMAGE", "true"], ["read --cpuset-cpus: this machine has no cpu 4000"]),
        (["--pids-limit", "x", "IMAGE", "true"], ['read --pids-limit: "x" is no number of processes']),
        (["--count", "0", "IMAGE", "true"], ['read --count: "0"']),
        (["--count", "x", "IMAGE", "true"], ['read --count: "x"']),
        (["--name", "-x-", "IMAGE", "true"], ["read --name"]),
        (["--name", "a/b", "IMAGE", "true"], ["read --name"]),
        (["--hostname", "a b", "IMAGE", "true"], ["read --hostname"]),
        (["--hostname", "x" * 65, "IMAGE", "true"], ["read --hostname"]),
        (["--cap-add", "FLY", "IMAGE", "true"], ["FLY"]),
        (["-e", "=x", "IMAGE", "true"], ["read --env"]),
        (["-v", "/tmp", "IMAGE", "true"], ["read --volume"]),
        (["-v", "/no/such:/x", "IMAGE", "true"], ["mount volume /no/such: the source does not exist"]),
        (["-v", "/tmp:/proc", "IMAGE", "true"], ["mount volume /proc: nothing can be mounted there"]),
        (["-v", "/tmp:/x", "-v", "/etc:/x", "IMAGE", "true"], ["another volume has this target"]),
        (["-v", "/tmp:/bin/sh/x", "IMAGE", "true"], ["/bin/sh/x"]),
        (["--env-file", "/no/such", "IMAGE", "true"], ["--env-file /no/such: no such file or directory"]),
        (["--flag-of-nobody", "IMAGE", "true"], ["--flag-of-nobody"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_run_refuses(shared: Engine, image: str, words: list[str], parts: list[str]) -> None:
    for mode in ((), ("-d",), ("-d", "--count", "3")):
        if "--count" in mode and "--count" in words:
            continue
        done = shared.cli("run", *mode, *[image if word == "IMAGE" else word for word in words])
        if "--count" in mode and len(done.stderr.splitlines()) == 3:  # of each container, where only its start shows it
            lines = set(done.stderr.splitlines())
            assert len(lines) == 1, lines
            done.stderr = lines.pop() + "\n"
        refused(done, done.returncode, *parts)
        assert done.returncode in (125, 126)
    assert shared.ids() == []
    assert list((shared.root / "snapshots").iterdir()) == []


def test_other_verbs_refuse(shared: Engine, image: str) -> None:
    shared.cli("create", "--name", "here", image, "true", check=True)
    refused(shared.cli("kill", "-s", "NOSUCH", "here"), 1, 'read --signal: "NOSUCH" is no signal')
    refused(shared.cli("kill", "here"), 1, "kill here: it is not running (it is created)")
    refused(shared.cli("stop", "-t", "-1", "here"), 1, 'read --time: "-1" is no number of seconds')
    refused(shared.cli("logs", "gone"), 1, "inspect gone: there is no such container")
    refused(shared.cli("wait", "gone"), 1, "wait for gone: there is no such container")
    refused(shared.cli("start", "gone"), 1, "start gone: there is no such container")
    refused(shared.cli("ps", "--format", "xml"), 1, 'read --format: "xml" is not known')
    refused(shared.cli("rm"), 1, "rm: give either names or --all")
    refused(shared.cli("frobnicate"), 1, 'read verb "frobnicate": no such verb')
    refused(shared.cli("events", "--since-seq", "x"), 1, 'read --since-seq: "x" is no sequence number')
    refused(shared.cli("daemon", "restart"), 1, 'daemon "restart": no such word')


def test_an_image_that_vanished(shared: Engine, rootfs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(rootfs, copy, symlinks=True)
    shared.cli("create", "--name", "orphan", f"rootfs:{copy}", "true", check=True)
    shutil.rmtree(copy)
    refused(shared.cli("start", "orphan"), 1, f"find image rootfs:{copy}: the directory does not exist")
    assert shared.cli("ps", "-a", check=True).stdout.count("orphan") == 1
    shared.cli("rm", "orphan", check=True)


def test_an_image_without_what_is_needed(shared: Engine, tmp_path: Path) -> None:
    """An empty directory: mount points are made, the program is missing."""
    refused(shared.cli("run", f"rootfs:{tmp_path}", "/bin/sh"), 127, "run /bin/sh: no such file or directory")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(engine: Engine, image: str, small_disk: Path) -> None:
    """Create until nothing goes: all of a request or none; what is there can be used, and removed."""
    engine.root = small_disk / "root"
    engine.env["ASYNCRT_ROOT"] = str(engine.root)
    engine.cli("create", "--count", "20", image, "echo", "hi", check=True)
    done = engine.cli("create", "--count", "200", image, "true")
    refused(done, 125, "no space left on device", str(engine.root))
    assert len(engine.ids()) == 20, "all of a request, or none"
    used = len(list((engine.root / "snapshots").iterdir()))
    assert used == 20
    while (done := engine.cli("create", "--count", "15", image, "true")).returncode == 0:
        assert len(engine.ids()) < 400
    refused(done, 125, "no space left on device")
    before = engine.ids()
    done = engine.cli("rm", "--all", timeout=60)
    assert done.returncode == 0, engine.story(done)
    assert sorted(done.stdout.split()) == sorted(before)
    assert engine.ids() == []
    assert engine.cli("run", "--rm", image, "echo", "again", check=True).stdout == "again\n"
    engine.cli("daemon", "stop", check=True)
    shutil.rmtree(engine.root)


def test_a_disk_that_a_container_filled(engine: Engine, image: str, small_disk: Path) -> None:
    """It writes until its pipe is full and waits; room makes it go on, and no byte is lost."""
    engine.root = small_disk / "root"
    engine.env["ASYNCRT_ROOT"] = str(engine.root)
    engine.cli("info", check=True)
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    script = "i=0; while [ $i -lt 24576 ]; do printf '%063d\\n' $i; i=$((i+1)); done; exit 5"
    engine.cli("run", "-d", "--name", "writer", image, "sh", "-c", script, check=True)
    until(lambda: shutil.disk_usage(small_disk).free < 8192, "the disk is full")
    assert engine.inspect("writer")["state"] == "running", "it waits for room"
    (small_disk / "ballast").unlink()
    assert engine.cli("wait", "writer", check=True).stdout == "5\n"
    assert engine.cli("logs", "writer").stdout == "".join(f"{n:063d}\n" for n in range(24576))
    engine.cli("rm", "writer", check=True)
    engine.cli("daemon", "stop", check=True)
    shutil.rmtree(engine.root)


def anew(engine: Engine, *words: str, **places: str) -> subprocess.CompletedProcess[str]:
    """A command with other places."""
    return engine.cli(*words, env={f"ASYNCRT_{name.upper()}": value for name, value in places.items()})


def test_directories_that_cannot_be(engine: Engine, image: str) -> None:
    file = engine.base / "file"
    file.write_text("")
    refused(anew(engine, "ps", state=f"{file}/state"), 1, f"{file}/state", "not a directory")
    refused(anew(engine, "run", image, "true", state=f"{file}/state"), 125, f"{file}/state", "not a directory")
    refused(anew(engine, "ps", root=f"{file}/root"), 1, f"{file}/root", "not a directory")
    refused(anew(engine, "ps", state=str(file)), 1, str(file))
    refused(anew(engine, "ps", root=str(file)), 1, str(file))
    refused(anew(engine, "ps", socket=f"{file}/socket"), 1, str(file))
    assert not engine.socket.exists()


def test_directories_that_are_read_only(engine: Engine, tmp_path: Path) -> None:
    place = tmp_path / "ro"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place], check=True)
    try:
        refused(anew(engine, "ps", state=f"{place}/state"), 1, f"{place}/state", "read-only file system")
        refused(anew(engine, "ps", root=f"{place}/root"), 1, f"{place}/root", "read-only file system")
        refused(anew(engine, "ps", root=str(place)), 1, str(place), "read-only file system")
        refused(anew(engine, "ps", state=str(place)), 1, str(place), "read-only file system")
        refused(anew(engine, "ps", socket=f"{place}/socket"), 1, str(place), "read-only file system")
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_socket_path_that_is_too_long(engine: Engine) -> None:
    path = str(engine.base / ("x" * 100))
    refused(anew(engine, "ps", socket=path), 1, path, "too long")


def test_a_socket_of_somebody_else(engine: Engine) -> None:
    """A file that is no socket is not overwritten."""
    path = engine.base / "precious"
    path.write_text("data")
    done = anew(engine, "ps", socket=str(path))
    refused(done, 1, f"listen on {path}: address already in use")
    assert path.read_text() == "data"
    path.unlink()


def test_a_deep_state_directory(engine: Engine, image: str) -> None:
    """sun_path holds 107 bytes; the shims' sockets lie deeper and are reached all the same."""
    engine.state = engine.base / ("d" * 90) / ("e" * 90) / "state"
    engine.env["ASYNCRT_STATE"] = str(engine.state)
    engine.cli("run", "-d", "--name", "deep", image, "sleep", "600", check=True)
    os.kill(engine.supervisor_pid(), 9)
    assert engine.inspect("deep")["state"] == "running"
    assert engine.cli("exec", "deep", "echo", "x", check=True).stdout == "x\n"


def test_two_supervisors_on_one_root(engine: Engine, image: str) -> None:
    engine.cli("create", image, "true", check=True)
    other = {"state": str(engine.base / "state2"), "socket": str(engine.base / "socket2")}
    refused(anew(engine, "ps", **other), 1, "metadata.db", "locked")
    assert len(engine.ids()) == 1


def test_a_second_daemon_on_one_state(engine: Engine) -> None:
    pid = engine.supervisor_pid()
    done = engine.cli("daemon")
    refused(done, 1, f"a supervisor runs already (pid {pid})")
    assert engine.supervisor_pid() == pid


def without_root(engine: Engine, *words: str) -> subprocess.CompletedProcess[str]:
    """As uid 65534, with an interpreter that it can read."""
    script = (
        "import os, sys; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534);"
        " from asyncrt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    # What it imports lazily must be loaded while it may still be read.
    verbs = ("run", "foreground", "ps", "info", "rm", "daemon")
    preload = f"import {', '.join(f'asyncrt.cli.{verb}' for verb in verbs)}; "
    return subprocess.run(
        [sys.executable, "-c", preload + script, *words],
        env=engine.env,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_root(engine: Engine, image: str) -> None:
    for words, code in (
        (("run", image, "true"), 125),
        (("ps",), 1),
        (("info",), 1),
        (("rm", "--all"), 1),
        (("daemon",), 1),
        (("daemon", "stop"), 1),
    ):
        refused(without_root(engine, *words), code, "asyncrt needs root: this is uid 65534 (try sudo)")
    assert not engine.state.exists()
    assert not engine.root.exists()


def test_nobody_else_gets_in(engine: Engine) -> None:
    """The socket, the directories: root's alone."""
    engine.cli("info", check=True)
    assert stat.S_IMODE(engine.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(engine.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(engine.state.stat().st_mode) == 0o700
    # Even where the mode does not keep it out, SO_PEERCRED does.
    os.chmod(engine.base, 0o777)
    os.chmod(engine.socket, 0o777)
    script = (
        "import os, socket, sys; os.setresuid(65534, 65534, 65534); s = socket.socket(socket.AF_UNIX);"
        " s.settimeout(10); s.connect(sys.argv[1])\n"
        "try:\n    print('answer', s.recv(100))\nexcept ConnectionResetError:\n    print('answer', b'')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, engine.socket], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "answer b''\n", done.stderr


def private_machine(engine: Engine, change: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a mount namespace of its own, where `change` was done to the machine."""
    line = f"{change} && exec {' '.join(CLI)} {' '.join(words)}"
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", line],
        env=engine.env,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_machine_without_cgroups(engine: Engine, image: str) -> None:
    done = private_machine(engine, "umount -R /sys/fs/cgroup", "run", image, "true")
    refused(done, 125, "find cgroups: none are mounted (mount cgroup2 on /sys/fs/cgroup)")
    assert not engine.socket.exists()


def test_a_machine_with_read_only_cgroups(engine: Engine, image: str) -> None:
    change = "for m in $(awk '$2 ~ /^.sys.fs.cgroup/ {print $2}' /proc/mounts); do mount -o remount,bind,ro $m; done"
    done = private_machine(engine, change, "run", image, "true")
    refused(done, 125, "create cgroup /sys/fs/cgroup", "read-only file system")
    assert not engine.socket.exists()


def test_a_machine_without_a_controller(engine: Engine, image: str) -> None:
    if not Path("/sys/fs/cgroup/pids").is_dir():
        pytest.skip("cgroup v2: controllers cannot be unmounted one by one")
    done = private_machine(engine, "umount /sys/fs/cgroup/pids", "run", "--pids-limit", "5", image, "true")
    refused(done, 125, "set limit pids.limit (this machine mounts no pids controller)")
    # That supervisor lives on, in its own mount namespace: it runs what needs no such limit.
    assert engine.cli("run", image, "echo", "fine", check=True).stdout == "fine\n"


def test_a_machine_without_overlay(engine: Engine, image: str, tmp_path: Path) -> None:
    listed = tmp_path / "filesystems"
    listed.write_text("nodev\tproc\n\text4\n")
    done = private_machine(engine, f"mount --bind {listed} /proc/filesystems", "run", image, "true")
    refused(done, 125, "use overlay /proc/filesystems: this kernel has no overlay file system")


def test_a_program_in_the_way_of_its_own_pipes(engine: Engine, image: str) -> None:
    """A command with its standard fds closed, and one whose stdout is a full device."""
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(CLI)} run {image} sh -c 'echo out; exit 3' <&- >&- 2>&-"],
        env=engine.env,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    with open("/dev/full", "w") as full:
        command = engine.popen("run", image, "echo", "lost", stdout=full)
        _, err = command.communicate(timeout=30)
    assert command.returncode == 1
    assert err.decode().splitlines() == ["asyncrt: write stdout: no space left on device"]


def test_a_supervisor_that_cannot_start_says_why_once(engine: Engine) -> None:
    """Ten commands, one broken root: each gets the reason."""
    (engine.base / "root").write_text("a file")
    commands = [engine.popen("ps") for _ in range(5)]
    for command in commands:
        _, err = command.communicate(timeout=60)
        assert command.returncode == 1
        assert len(err.splitlines()) == 1, err
        assert str(engine.root).encode() in err
    (engine.base / "root").unlink()
    assert engine.json("ps") == []


def test_damaged_records(engine: Engine, image: str) -> None:
    engine.cli("create", image, "true", check=True)
    engine.cli("daemon", "stop", check=True)
    database = engine.root / "metadata.db"
    whole = database.read_bytes()
    database.write_bytes(b"not a database" * 1000)
    done = engine.cli("ps")
    refused(done, 1, str(database))
    assert not engine.socket.exists()
    database.write_bytes(whole)
    assert len(engine.ids()) == 1
    assert watch.alive(engine.supervisor_pid())
