"""What was asked for is what the container gets: seen from inside, and in the kernel's files from outside."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import rootfs as rootfs_maker
from tests import watch
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, made after the supervisor started, with another one below it."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted: list[Path] = []
    try:
        for target in (place, place / "sub"):
            target.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=64m", "tmpfs", target], check=True)
            mounted.append(target)
        (place / "above").write_text("above\n")
        (place / "sub/below").write_text("below\n")
        yield place
    finally:
        for target in reversed(mounted):
            subprocess.run(["umount", target], check=True)


def test_env(shared: Engine, image: str) -> None:
    flags = ("-e", "A=1", "-e", "B=two words", "-e", "A=3", "-e", "FROM_OURS", "-e", "NOT_THERE", "-e", "EMPTY=")
    done = shared.cli("run", *flags, image, "env", check=True, env={"FROM_OURS": "yes"})
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert variables["A"] == "3"
    assert variables["B"] == "two words"
    assert variables["FROM_OURS"] == "yes"
    assert variables["EMPTY"] == ""
    assert "NOT_THERE" not in variables
    assert variables["HOME"] == "/root"
    assert variables["PATH"].startswith("/usr/local/sbin:")
    assert variables["ASYNCRT_INDEX"] == "0"
    assert len(variables["HOSTNAME"]) == 12
    assert not {name for name in variables if name.startswith(("PYTHON", "TMPDIR", "ASYNCRT_ROOT"))}


def test_env_of_its_own_goes_before_ours(shared: Engine, image: str) -> None:
    flags = ("-e", "HOSTNAME=chosen", "-e", "HOME=/here", "-e", "ASYNCRT_INDEX=x", "-e", "PATH=/bin")
    done = shared.cli("run", *flags, image, "sh", "-c", "echo $HOSTNAME $HOME $ASYNCRT_INDEX $PATH", check=True)
    assert done.stdout == "chosen /here x /bin\n"


def test_workdir(shared: Engine, image: str) -> None:
    assert shared.cli("run", image, "pwd", check=True).stdout == "/\n"
    assert shared.cli("run", "-w", "/home/app", image, "pwd", check=True).stdout == "/home/app\n"
    assert shared.cli("run", "-w", "/made/for/it", image, "pwd", check=True).stdout == "/made/for/it\n"


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)"),
        ("1000", "uid=1000(app) gid=1000(app) groups=50(staff),1000(app)"),
        ("app:staff", "uid=1000(app) gid=50(staff) groups=50(staff)"),
        ("4321:1234", "uid=4321 gid=1234 groups=1234"),
        ("root", "uid=0(root) gid=0(root) groups=0(root)"),
    ],
)
@pytest.mark.busybox
def test_user(shared: Engine, image: str, user: str, shown: str) -> None:
    assert shared.cli("run", "-u", user, image, "id", check=True).stdout.strip() == shown


def test_user_can_use_its_streams_and_home(shared: Engine, image: str) -> None:
    script = "echo to file > $HOME/mine; cat $HOME/mine; echo again > /dev/stdout; echo $HOME; touch /root/no"
    done = shared.cli("run", "-u", "app", image, "sh", "-c", script)
    assert done.stdout == "to file\nagain\n/home/app\n"
    assert "denied" in done.stderr
    assert done.returncode == 1


def test_hostname(shared: Engine, image: str) -> None:
    done = shared.cli("run", "--hostname", "harbour", image, "sh", "-c", "hostname; echo $HOSTNAME", check=True)
    assert done.stdout == "harbour\nharbour\n"
    id = shared.cli("run", "-d", image, "hostname", check=True).stdout.strip()
    shared.cli("wait", id, check=True)
    assert shared.cli("logs", id).stdout == f"{id[:12]}\n"
    assert os.uname().nodename not in ("harbour", id[:12])


def test_entrypoint(shared: Engine, image: str) -> None:
    done = shared.cli("run", "--entrypoint", "/bin/echo", image, "-n", "a  b", check=True)
    assert done.stdout == "a  b"


def test_arguments_arrive_as_they_were(shared: Engine, image: str) -> None:
    words = ["a b", "", "--rm", "$HOME", "ü€𝄞", "new\nline", "'\"\\"]
    done = shared.cli("run", image, "printf", "%s|", *words, check=True)
    assert done.stdout == "".join(f"{word}|" for word in words)


def test_read_only(shared: Engine, image: str) -> None:
    script = "touch /x; touch /etc/x; echo ok > /dev/shm/x && cat /dev/shm/x"
    done = shared.cli("run", "--read-only", image, "sh", "-c", script)
    assert done.stdout == "ok\n"
    assert done.stderr.count("Read-only file system") == 2


def test_a_layer_of_its_own(shared: Engine, image: str, rootfs: Path) -> None:
    script = "echo $ASYNCRT_INDEX > /mine; rm /etc/hostname; echo x > /etc/passwd; sleep 0.1; cat /mine; ls /etc"
    done = shared.cli("run", "--count", "3", "--name", "sea", image, "sh", "-c", script, check=True)
    assert {f"sea-{n + 1} | {n}" for n in range(3)} <= set(done.stdout.splitlines())
    assert "hostname" not in done.stdout
    assert not (rootfs / "mine").exists()
    assert (rootfs / "etc/hostname").exists()
    assert "app" in (rootfs / "etc/passwd").read_text()


# volumes


def test_volume(shared: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    script = "cat /data/in; echo from inside > /data/out; mkdir /data/d"
    done = shared.cli("run", "-v", f"{tmp_path}:/data", image, "sh", "-c", script, check=True)
    assert done.stdout == "from outside\n"
    assert (tmp_path / "out").read_text() == "from inside\n"
    assert (tmp_path / "d").is_dir()


def test_volume_read_only(shared: Engine, image: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    done = shared.cli("run", "-v", f"{tmp_path}:/data:ro", image, "sh", "-c", "cat /data/in; touch /data/out")
    assert done.stdout == "from outside\n"
    assert "Read-only file system" in done.stderr
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()


def test_volume_of_one_file_and_in_deep_places(shared: Engine, image: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content\n")
    flags = ("-v", f"{file}:/etc/hostname", "-v", f"{tmp_path}:/a/b/c", "-v", f"{file}:/a/b/c/inner:ro")
    done = shared.cli("run", *flags, image, "sh", "-c", "cat /etc/hostname /a/b/c/file /a/b/c/inner", check=True)
    assert done.stdout == "content\n" * 3


def test_volume_of_another_file_system(shared: Engine, image: str, other_disk: Path) -> None:
    script = "cat /data/above /data/sub/below; echo w > /data/w; echo w > /data/sub/w"
    done = shared.cli("run", "-v", f"{other_disk}:/data", image, "sh", "-c", script, check=True)
    assert done.stdout == "above\nbelow\n"
    assert (other_disk / "w").read_text() == (other_disk / "sub/w").read_text() == "w\n"
    script = "cat /data/above /data/sub/below; touch /data/x"
    done = shared.cli("run", "-v", f"{other_disk}:/data:ro", image, "sh", "-c", script)
    assert done.stdout == "above\nbelow\n"
    assert "Read-only file system" in done.stderr


def test_read_only_goes_for_what_is_mounted_below(shared: Engine, image: str, other_disk: Path) -> None:
    done = shared.cli("run", "-v", f"{other_disk}:/data:ro", image, "touch", "/data/sub/x")
    assert "Read-only file system" in done.stderr


def test_the_container_holds_no_mount_of_the_machine(shared: Engine, image: str, other_disk: Path) -> None:
    """Its mount table names its root, the standard mounts and the volume: nothing else of the machine."""
    done = shared.cli("run", "-v", f"{other_disk / 'sub'}:/data", image, "cat", "/proc/self/mountinfo", check=True)
    targets = {line.split()[4] for line in done.stdout.splitlines()}
    strange = {target for target in targets if not target.startswith(("/proc", "/sys", "/dev"))}
    assert strange == {"/", "/data"}
    shared.cli("run", "-d", image, "sleep", "600", check=True)
    subprocess.run(["umount", other_disk / "sub"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", other_disk / "sub"], check=True)  # the fixture's to unmount


def test_an_image_on_another_file_system(shared: Engine, other_disk: Path) -> None:
    place = other_disk / "image"
    place.mkdir()
    rootfs_maker.build(place)
    ids = shared.cli("run", "-d", "--count", "5", f"rootfs:{place}", "sh", "-c", "echo hi > /new; cat /new", check=True)
    shared.cli("wait", *ids.stdout.split(), check=True)
    for id in ids.stdout.split():
        assert shared.cli("logs", id).stdout == "hi\n"
    assert not (place / "new").exists()
    shared.cli("rm", "--all", check=True)
    shutil.rmtree(place)


# limits


def test_limits_stand_in_the_cgroup(shared: Engine, image: str) -> None:
    flags = ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "33", "--cpuset-cpus", "0")
    id = shared.cli("run", "-d", *flags, image, "sleep", "600", check=True).stdout.strip()
    assert watch.cgroup_text(shared, id, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert watch.cgroup_text(shared, id, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert watch.cgroup_text(shared, id, "pids.max", "pids.max") == "33"
    assert watch.cgroup_text(shared, id, "cpuset.cpus", "cpuset.cpus") == "0"
    pid = shared.inspect(id)["pid"]
    assert os.sched_getaffinity(pid) == {0}
    assert all(pid in map(int, (place / "cgroup.procs").read_text().split()) for place in watch.cgroup_dirs(shared, id))


def test_out_of_memory(shared: Engine, image: str) -> None:
    done = shared.cli("run", "--name", "glutton", "--memory", "16m", image, "sh", "-c", "a=x; while :; do a=$a$a; done")
    assert done.returncode == 137
    ended = shared.inspect("glutton")["exit"]
    assert ended["oom_kills"] >= 1
    assert (ended["code"], ended["signal"], ended["lost"]) == (137, 9, "")
    assert ended["memory_peak"] <= 16 << 20
    assert ended["memory_peak"] > 8 << 20


def test_too_many_processes(shared: Engine, image: str) -> None:
    script = "i=0; while [ $i -lt 20 ]; do sleep 600 & i=$((i+1)); done; echo all"
    done = shared.cli("run", "--pids-limit", "5", image, "sh", "-c", script)
    assert "all" not in done.stdout
    assert "fork" in done.stderr
    assert done.returncode != 0


def test_cpus_limit_is_felt(shared: Engine, image: str) -> None:
    id = shared.cli("run", "-d", "--cpus", "0.1", image, "sh", "-c", "while :; do :; done", check=True).stdout.strip()

    def throttled() -> int:
        text = watch.cgroup_text(shared, id, "cpu.stat", "cpu.stat")
        return int(dict(line.split() for line in text.splitlines())["nr_throttled"])

    until(lambda: throttled() >= 3, "it is throttled")


# capabilities


def capabilities(shared: Engine, *words: str) -> dict[str, int]:
    done = shared.cli("run", *words, "grep", "Cap", "/proc/self/status", check=True)
    return {line.split(":")[0]: int(line.split()[1], 16) for line in done.stdout.splitlines()}


CHOWN, NET_ADMIN, NET_RAW, SYS_TIME = 1 << 0, 1 << 12, 1 << 13, 1 << 25


def test_capabilities(shared: Engine, image: str) -> None:
    sets = capabilities(shared, image)
    assert sets["CapEff"] == sets["CapPrm"] == sets["CapBnd"]
    assert sets["CapInh"] == sets["CapAmb"] == 0
    assert sets["CapEff"] & (CHOWN | NET_RAW) == CHOWN | NET_RAW
    assert not sets["CapEff"] & (NET_ADMIN | SYS_TIME)
    more = capabilities(shared, "--cap-add", "NET_ADMIN", "--cap-add", "cap_sys_time", "--cap-drop", "CHOWN", image)
    assert more["CapEff"] == (sets["CapEff"] | NET_ADMIN | SYS_TIME) & ~CHOWN
    assert more["CapBnd"] == more["CapEff"]
    none = capabilities(shared, "--cap-drop", "ALL", image)
    assert set(none.values()) == {0}
    one = capabilities(shared, "--cap-drop", "ALL", "--cap-add", "NET_RAW", image)
    assert one["CapEff"] == one["CapBnd"] == NET_RAW


def test_capabilities_of_a_user(shared: Engine, image: str) -> None:
    sets = capabilities(shared, "-u", "app", image)
    assert sets["CapEff"] == sets["CapPrm"] == sets["CapInh"] == sets["CapAmb"] == 0
    assert sets["CapBnd"] & CHOWN


# confinement


@pytest.mark.busybox
def test_what_is_masked_and_read_only(shared: Engine, image: str) -> None:
    script = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname; echo rc $?"
    done = shared.cli("run", image, "sh", "-c", script, check=True)
    assert done.stdout.split() == ["0", "0", "rc", "1"]
    assert "Read-only file system" in done.stderr


def test_only_its_own_network_and_processes(shared: Engine, image: str) -> None:
    done = shared.cli("run", image, "sh", "-c", "ls /sys/class/net; echo $$; ls -d /proc/[0-9]* | wc -l", check=True)
    assert done.stdout.split()[:2] == ["lo", "1"]
    assert int(done.stdout.split()[2]) <= 3


def test_no_fd_of_ours_leaks_in(shared: Engine, image: str) -> None:
    done = shared.cli("run", image, "sh", "-c", "ls -l /proc/1/fd | grep -c -e '->'", check=True)
    assert int(done.stdout) == 3
    script = "ls /proc/self/fd; readlink /proc/self/cwd"
    assert shared.cli("run", image, "sh", "-c", script, check=True).stdout.split() == ["0", "1", "2", "3", "/"]
