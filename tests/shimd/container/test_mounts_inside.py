"""Mount options as a container sees them: recursive ones, propagation, id maps, copies, remounts."""

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shimd.linux import mounts, processes
from tests.shimd.configs import MOUNTS, NAMESPACES, config, maps, mount, shell
from tests.shimd.line import until
from tests.shimd.stage import Stage, StartFailed, TemplateFailed, opened

pytestmark = pytest.mark.root
# struct vfs_cap_data, version 2: cap_net_raw=ep.
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def options_of(said: str, place: str) -> set[str]:
    """A mount's own options, from mountinfo."""
    lines = [line.split() for line in said.splitlines()]
    return next(set(words[5].split(",")) for words in lines if words[4:5] == [place])


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system mounted below it."""
    below = tmp_path / "deep/below"
    below.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "below", below], check=True)
    yield tmp_path / "deep"
    subprocess.run(["umount", below], check=True)


@pytest.mark.parametrize(
    ("options", "top", "below"),
    [
        (("rbind", "ro"), "ro", "rw"),
        (("rbind", "rro"), "ro", "ro"),
        (("rbind", "ro", "rro"), "ro", "ro"),
        (("rbind", "rro", "rrw"), "rw", "rw"),
    ],
)
def test_read_only_below(rootfs: Path, deep: Path, options: tuple[str, ...], top: str, below: str) -> None:
    with opened(rootfs, [deep, deep / "below"]) as stage:
        script = "cat /proc/self/mountinfo; touch /vol/below/x 2>&1; touch /vol/x 2>&1; true"
        said = stage.output(shell(script, mounts=[*MOUNTS, mount("bind", deep, "/vol", *options)]))
        assert top in options_of(said, "/vol")
        assert below in options_of(said, "/vol/below")
        assert said.count("Read-only file system") == [top, below].count("ro")


def test_the_other_recursive_options(rootfs: Path, deep: Path) -> None:
    words = ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"]
    with opened(rootfs, [deep, deep / "below"]) as stage:
        recursive = [f"r{word}" for word in words]
        document = config(
            "cat", "/proc/self/mountinfo", mounts=[*MOUNTS, mount("bind", deep, "/vol", "rbind", *recursive)]
        )
        said = stage.output(document)
        for place in ("/vol", "/vol/below"):
            assert {"nosuid", "nodev", "noexec", "noatime", "nodiratime"} <= options_of(said, place)
        # nosymfollow is told by statmount(2) and /proc/mounts since 5.10; what counts is what it does.
        (deep / "below/link").symlink_to("/etc/hostname")
        document["process"]["args"] = ["cat", "/vol/below/link"]
        assert b"Too many levels" in stage.run(document).log("stderr")


def test_recursive_options_of_a_new_file_system(stage: Stage) -> None:
    said = stage.output(
        config(
            "cat", "/proc/self/mountinfo", mounts=[*MOUNTS, mount("tmpfs", "t", "/tmp", "rro", "rnosuid", "mode=755")]
        )
    )
    assert {"ro", "nosuid"} <= options_of(said, "/tmp")


def test_options_go_with_a_user_namespace_too(stage: Stage, tmp_path: Path) -> None:
    document = config(
        "cat",
        "/proc/self/mountinfo",
        namespaces=[*NAMESPACES, "user"],
        mounts=[*MOUNTS, mount("bind", tmp_path, "/tmp", "rbind", "rro", "nosuid")],
        linux=maps(100000),
    )
    assert {"ro", "nosuid"} <= options_of(stage.output(document, owner=100000), "/tmp")


# id maps


@pytest.fixture
def mapped_places(tmp_path: Path) -> None:
    """Skips the test where what lies below tmp_path cannot be mapped."""
    tree = mounts.open_tree(mounts.AT_FDCWD, str(tmp_path), mounts.OPEN_TREE_CLONE)
    users = processes.user_namespace("0 0 1\n", "0 0 1\n")
    try:
        mounts.mount_setattr(tree, "", set_=mounts.MOUNT_ATTR_IDMAP, userns=users)
    except OSError:
        pytest.skip(f"the file system of {tmp_path} takes no id map on this kernel")
    finally:
        os.close(tree)
        os.close(users)


@pytest.mark.usefixtures("mapped_places")
@pytest.mark.parametrize("option", ["idmap", "ridmap", ""])
def test_an_id_mapped_bind(stage: Stage, tmp_path: Path, option: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    os.chown(source / "file", 7, 8)
    document = shell(
        "stat -c %u:%g /vol/file; touch /vol/new",
        mounts=[*MOUNTS, mount("bind", source, "/vol", "rbind", *([option] if option else []), **maps(5000))],
        process={"user": {"uid": 5000, "gid": 5000}},
    )
    source.chmod(0o777)
    assert stage.output(document) == "5007:5008\n"
    made = (source / "new").stat()
    assert (made.st_uid, made.st_gid) == (0, 0)


@pytest.mark.usefixtures("mapped_places")
@pytest.mark.parametrize(("option", "owner"), [("idmap", "7"), ("ridmap", "5007")])
def test_how_deep_an_id_map_goes(rootfs: Path, deep: Path, option: str, owner: str) -> None:
    (deep / "below/file").touch()
    os.chown(deep / "below/file", 7, 7)
    with opened(rootfs, [deep, deep / "below"]) as stage:
        volume = mount("bind", deep, "/vol", "rbind", option, **maps(5000))
        assert stage.output(config("stat", "-c", "%u", "/vol/below/file", mounts=[*MOUNTS, volume])) == f"{owner}\n"


@pytest.mark.usefixtures("mapped_places")
def test_an_id_map_is_the_user_namespaces_where_no_other_is_given(stage: Stage, tmp_path: Path) -> None:
    """Files of the machine's root are the container's root's: what Docker's and podman's volumes are mapped for."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    document = config(
        *("sh", "-c", "stat -c %u /tmp/vol/file; touch /tmp/vol/new"),
        namespaces=[*NAMESPACES, "user"],
        mounts=[*MOUNTS, mount("bind", source, "/tmp/vol", "bind", "idmap")],
        linux=maps(100000),
    )
    assert stage.output(document, owner=100000) == "0\n"
    assert (source / "new").stat().st_uid == 0


def test_an_id_map_that_the_kernel_refuses(stage: Stage) -> None:
    """procfs takes no id map (mount_setattr(2), "ID-mapped mounts")."""
    volume = mount("bind", "/proc", "/vol", "bind", "idmap", **maps(5000))
    words = "open /proc to bind on /vol: a file system there takes no id map on this kernel"
    with pytest.raises(StartFailed, match=words):
        stage.start(config("true", mounts=[*MOUNTS, volume]))


# tmpfs


def test_a_tmpfs_with_a_copy_of_the_images(stage: Stage) -> None:
    container = stage.prepare()
    layer = container.base / "layer"
    (layer / "data/sub").mkdir(parents=True)
    (layer / "data/sub/file").write_text("content\n")
    (layer / "data/sub/file").chmod(0o4751)
    os.chown(layer / "data/sub/file", 7, 8)
    (layer / "data/sub/file").chmod(0o4751)
    os.utime(layer / "data/sub/file", (1000, 1000))
    os.setxattr(layer / "data/sub/file", "security.capability", CAPABILITY)
    (layer / "data/link").symlink_to("/etc/hostname")
    os.mkfifo(layer / "data/fifo")
    (layer / "data").chmod(0o710)
    os.chown(layer / "data", 7, 8)
    script = """
        cat /data/sub/file; stat -c '%a %u:%g %Y' /data/sub/file /data
        readlink /data/link; stat -c %F /data/fifo
        echo more >/data/sub/new; cat /data/sub/new; sleep 60
    """
    copied = mount("tmpfs", "t", "/data", "tmpcopyup", "nosuid")
    container.root = container.root._replace(lower=[str(layer), str(stage.rootfs)])
    stage.spawn(container, stage.template(shell(script, mounts=[*MOUNTS, copied])))
    assert until(lambda: b"more" in container.log("stdout"))
    copy = Path(f"/proc/{container.pid}/root/data/sub/file")
    assert os.getxattr(copy, "security.capability") == CAPABILITY
    said = container.log("stdout").decode().splitlines()
    assert container.log("stderr") == b""
    assert said[:2] == ["content", "4751 7:8 1000"]
    assert said[2].startswith("710 7:8 ")
    assert said[3:] == ["/etc/hostname", "fifo", "more"]
    assert not (container.base / "upper/data/sub").exists()


@pytest.mark.busybox
def test_a_copy_that_ends_read_only(stage: Stage) -> None:
    copied = mount("tmpfs", "t", "/etc", "tmpcopyup", "ro", "strictatime")
    said = stage.output(shell("cat /etc/hostname; touch /etc/x 2>&1; true", mounts=[*MOUNTS, copied]))
    assert said == "image\ntouch: /etc/x: Read-only file system\n"


def test_a_copy_that_does_not_fit(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="mount tmpfs on /bin: no space left on device"):
        stage.start(config("true", mounts=[*MOUNTS, mount("tmpfs", "t", "/bin", "tmpcopyup", "size=4k")]))


def test_the_mode_of_a_tmpfs_is_that_of_what_was_there(stage: Stage) -> None:
    mounts = [*MOUNTS, mount("tmpfs", "t", "/tmp"), mount("tmpfs", "t", "/home/app"), mount("tmpfs", "t", "/new/place")]
    mounts.append(mount("tmpfs", "t", "/run", "mode=711"))
    said = stage.output(config("stat", "-c", "%a", "/tmp", "/home/app", "/new/place", "/run", mounts=mounts))
    # What was not there has the kernel's mode.
    assert said.split() == ["1777", "755", "1777", "711"]


@pytest.mark.busybox
def test_a_read_only_dev(stage: Stage) -> None:
    """What is in it is made before it is read-only."""
    mounts = [dict(entry) for entry in MOUNTS]
    mounts[1]["options"] = [*mounts[1]["options"], "ro"]
    for changes in ({}, {"namespaces": [*NAMESPACES, "user"], "linux": maps(100000)}):
        script = "touch /dev/x 2>&1; : >/dev/null; touch /dev/shm/x && ls /dev/pts/ptmx; cat /proc/self/mountinfo"
        said = stage.output(shell(script, mounts=mounts, **changes), owner=100000 if changes else 0)
        assert said.splitlines()[:2] == ["touch: /dev/x: Read-only file system", "/dev/pts/ptmx"]
        assert {"ro", "nosuid"} <= options_of(said, "/dev")


def test_sysfs_of_the_machines_network_in_a_user_namespace(stage: Stage) -> None:
    """The kernel mounts none there: it is the machine's, with what was asked for."""
    kinds = [kind for kind in NAMESPACES if kind != "network"]
    document = config("cat", "/proc/self/mountinfo", namespaces=[*kinds, "user"], linux=maps(100000))
    said = stage.output(document, owner=100000)
    assert {"ro", "nosuid", "nodev", "noexec"} <= options_of(said, "/sys")


# others


@pytest.mark.parametrize(
    "option", ["sync", "dirsync", "lazytime", "silent", "loud", "noiversion", "iversion", "nomand"]
)
def test_options_of_the_superblock(stage: Stage, option: str) -> None:
    document = config("cat", "/proc/self/mounts", mounts=[*MOUNTS, mount("tmpfs", "t", "/tmp", option, "size=64k")])
    lines = [line.split() for line in stage.output(document).splitlines()]
    found = next(set(words[3].split(",")) for words in lines if words[1] == "/tmp")
    assert "size=64k" in found
    if option in ("sync", "dirsync", "lazytime"):
        assert option in found


def test_an_option_that_no_file_system_knows(stage: Stage) -> None:
    with pytest.raises(StartFailed, match=r"mount tmpfs on /tmp: .*nonsense"):
        stage.start(config("true", mounts=[*MOUNTS, mount("tmpfs", "t", "/tmp", "nonsense=1", "mode=755")]))


def test_options_longer_than_fsconfig_takes(stage: Stage, tmp_path: Path) -> None:
    """As podman writes them for a volume with an overlay of its own."""
    layers = [tmp_path / (letter * 100) for letter in "abcd"]
    for layer in layers:
        layer.mkdir()
        (layer / f"from-{layer.name[0]}").touch()
    lower = ":".join(map(str, layers))
    over = mount("overlay", "overlay", "/vol", f"lowerdir={lower}", "ro", "private")
    assert stage.output(config("ls", "/vol", mounts=[*MOUNTS, over])).split() == [f"from-{x}" for x in "abcd"]
    too_long = mount("overlay", "overlay", "/vol", f"lowerdir={':'.join([lower] * 12)}")
    with pytest.raises(StartFailed, match="mount overlay on /vol: its options are longer than one page"):
        stage.start(config("true", mounts=[*MOUNTS, too_long]))


def test_remounts(stage: Stage, tmp_path: Path) -> None:
    mounts = [
        *MOUNTS,
        mount("tmpfs", "t", "/tmp", "size=64k", "nosuid"),
        mount("tmpfs", "t", "/tmp", "remount", "size=128k", "noexec"),
        mount("bind", tmp_path, "/vol", "bind", "nodev"),
        mount("bind", tmp_path, "/vol", "remount", "bind", "ro"),
    ]
    said = stage.output(config("cat", "/proc/self/mountinfo", mounts=mounts))
    assert {"nosuid", "noexec", "rw"} <= options_of(said, "/tmp")
    assert [line for line in said.splitlines() if line.split()[4] == "/tmp" and "size=128k" in line]
    # What the options do not name stays.
    assert {"ro", "nodev"} <= options_of(said, "/vol")


def test_a_remount_of_what_is_no_mount(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="remount /etc: invalid argument"):
        stage.start(config("true", mounts=[*MOUNTS, mount("bind", "", "/etc", "remount", "ro")]))


def test_a_remount_to_read_only_is_the_containers_alone(stage: Stage) -> None:
    """A superblock may be the machine's as well: sysfs is one for each network namespace."""
    plain = [kind for kind in NAMESPACES if kind != "network"]
    mounts = [entry for entry in MOUNTS if "cgroup" not in entry["destination"]]
    mounts.append(mount("sysfs", "sysfs", "/sys", "remount", "ro"))
    stage.output(config("true", namespaces=plain, mounts=mounts))
    options = [line.split(" - ")[1] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert not [line for line in options if line.startswith("sysfs") and line.split()[2].startswith("ro")]


def test_a_file_on_a_file_and_not_on_a_directory(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("file\n")
    for source, place, words in (
        (tmp_path / "file", "/tmp", "a file cannot be mounted on a directory"),
        (tmp_path, "/etc/passwd", "not a directory"),
    ):
        with pytest.raises(StartFailed, match=f"bind {source} on {place}: {words}"):
            stage.start(config("true", mounts=[*MOUNTS, mount("bind", source, place, "bind")]))
    twice = [mount("bind", tmp_path / "file", place, "bind") for place in ("/etc/hostname", "/new/dir/file")]
    assert stage.output(config("cat", "/etc/hostname", "/new/dir/file", mounts=[*MOUNTS, *twice])) == "file\n" * 2


def test_mounts_in_dev_and_below_others(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("log\n")
    mounts = [
        *MOUNTS,
        mount("bind", tmp_path / "log", "/dev/log", "bind"),
        mount("tmpfs", "t", "/dev/deep/place", "size=64k"),
        mount("tmpfs", "t", "/mnt", "size=64k"),
        mount("tmpfs", "t", "/mnt/a/b", "size=64k"),
        mount("bind", tmp_path, "/mnt/a/b/c", "bind"),
        mount("bind", "/dev/zero", "/dev/mine", "bind"),
    ]
    script = (
        "cat /dev/log /mnt/a/b/c/log; head -c 3 /dev/mine | wc -c; touch /dev/deep/place/x && echo made; : >/dev/null"
    )
    assert stage.output(shell(script, mounts=mounts)).split() == ["log", "log", "3", "made"]


def test_a_dev_of_the_machines(stage: Stage) -> None:
    """Nothing is made in it, and what it has is there."""
    before = sorted(os.listdir("/dev"))
    mounts = [MOUNTS[0], mount("bind", "/dev", "/dev", "rbind")]
    devices = [{"type": "c", "path": "/dev/of-the-config", "major": 1, "minor": 3}]
    document = shell(": >/dev/null; head -c 3 /dev/zero | wc -c", mounts=mounts, linux={"devices": devices})
    assert stage.output(document) == "3\n"
    assert sorted(os.listdir("/dev")) == before


@pytest.mark.parametrize("own", [True, False])
def test_cgroups_with_and_without_a_namespace(stage: Stage, own: bool) -> None:
    """Version 1: the container's own cgroups either way; version 2 without a namespace: where they really are."""
    namespaces = [kind for kind in NAMESPACES if own or kind != "cgroup"]
    container = stage.start(shell("cat /proc/self/cgroup; sleep 60", namespaces=namespaces))
    version = stage.hierarchies[0].version
    inside = "/sys/fs/cgroup" if own or version == 1 else f"/sys/fs/cgroup{container.cgroup}"
    file = f"{inside}/memory/tasks" if version == 1 else f"{inside}/cgroup.procs"
    assert "1" in container.run_inside("cat", file).split()


def test_version_2_where_there_is_version_1(stage: Stage) -> None:
    if stage.hierarchies[0].version == 2:
        pytest.skip("this machine has version 2")
    with pytest.raises(TemplateFailed, match="cgroups are of version 1 on this machine"):
        stage.template(config("true", mounts=[*MOUNTS, mount("cgroup2", "c", "/sys/fs/cgroup")]))
