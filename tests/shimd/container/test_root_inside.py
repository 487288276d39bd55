"""The root file system as a container sees it: layers, mounts, devices, masks, volumes."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import mounts
from shimd.wire.messages import RootMount
from tests.shimd.configs import MOUNTS, config, shell
from tests.shimd.stage import Stage, StartFailed, opened

pytestmark = pytest.mark.root


def bind(source: Path | str, destination: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", *options]}


def test_writes_go_to_the_upper_layer(stage: Stage) -> None:
    container = stage.run(shell("echo new >/new; rm /etc/hostname; rmdir /home/app"))
    assert (container.base / "upper/new").read_text() == "new\n"
    assert (stage.rootfs / "etc/hostname").exists()
    assert not (stage.rootfs / "new").exists()


def test_lower_layers_in_their_order(stage: Stage) -> None:
    container = stage.prepare()
    layers = [container.base / name for name in ("top", "bottom")]
    for layer in layers:
        (layer / "etc").mkdir(parents=True)
        (layer / "etc/which").write_text(f"{layer.name}\n")
    (layers[1] / "etc/only").write_text("only\n")
    root = container.root
    stage.spawn(
        container,
        stage.template(config("cat", "/etc/which", "/etc/only", "/etc/hostname")),
        root=[root._replace(lower=[*map(str, layers), str(stage.rootfs)])],
    )
    container.ended()
    assert container.log("stdout") == b"top\nonly\nimage\n"


def test_very_many_layers(stage: Stage) -> None:
    """Beyond what fits into one page of mount options."""
    container = stage.prepare()
    layers = [container.base / f"layer-{'x' * 60}-{number}" for number in range(100)]
    for layer in layers:
        layer.mkdir()
        (layer / layer.name[-2:].strip("-")).touch()
    root = container.root
    key = stage.template(shell("ls / | wc -l"))
    stage.spawn(container, key, root=[root._replace(lower=[*map(str, layers), str(stage.rootfs)])])
    container.ended()
    assert int(container.log("stdout")) > 100


@pytest.mark.parametrize("count", [1, 40])
def test_layers_in_deep_places(stage: Stage, count: int) -> None:
    """A path beyond what fsconfig(2) takes as a string, and many, beyond what mount(2) takes as options."""
    container = stage.prepare()
    deep = container.base / ("x" * 200) / ("y" * 100)
    layers = [deep / str(number) for number in range(count)]
    for layer in layers:
        layer.mkdir(parents=True)
        (layer / f"found-{layer.name}").touch()
    key = stage.template(shell("ls -d /found-* | wc -l; echo new >/new"))
    stage.spawn(container, key, root=[container.root._replace(lower=[*map(str, layers), str(stage.rootfs)])])
    container.ended()
    assert container.log("stdout") == f"{count}\n".encode()
    assert (container.base / "upper/new").read_text() == "new\n"


@pytest.mark.parametrize("name", ["a:b", "a,b", "a b", "a\\b", "é", "a=b"])
def test_layers_with_odd_names(stage: Stage, name: str) -> None:
    container = stage.prepare()
    layer = container.base / name
    layer.mkdir()
    (layer / "found").write_text("found\n")
    root = container.root
    key = stage.template(config("cat", "/found"))
    stage.spawn(container, key, root=[root._replace(lower=[str(layer), str(stage.rootfs)])])
    container.ended()
    assert container.log("stdout") == b"found\n"


def test_a_layer_that_came_as_a_mount(stage: Stage, tmp_path: Path) -> None:
    """A file system that was mounted after the zygote copied the mounts travels as a detached tree."""
    subprocess.run(["mount", "-t", "tmpfs", "late", tmp_path], check=True)
    try:
        (tmp_path / "found").write_text("found\n")
        container = stage.prepare()
        tree = mounts.open_tree(mounts.AT_FDCWD, str(tmp_path), mounts.OPEN_TREE_CLONE)
        root = container.root._replace(lower=[str(tmp_path), str(stage.rootfs)])
        key = stage.template(config("cat", "/found"))
        stage.spawn(container, key, root=[root], trees=[str(tmp_path)], fds=[tree])
        os.close(tree)
        container.ended()
        assert container.log("stdout") == b"found\n"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_directory_as_root(stage: Stage) -> None:
    document = config("cat", "/etc/hostname", mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})
    container = stage.prepare()
    copy = container.base / "copy"
    subprocess.run(["cp", "-a", stage.rootfs, copy], check=True)
    stage.spawn(container, stage.template(document), root=[RootMount("bind", [str(copy)])])
    container.ended()
    assert container.log("stdout") == b"image\n"


def test_a_read_only_root(stage: Stage) -> None:
    script = "touch /x; echo $?; touch /tmp/x; echo $?; touch /dev/shm/x; echo $?; : >/dev/null; echo $?"
    document = shell(script, root={"path": "rootfs", "readonly": True})
    assert stage.output(document).split() == ["1", "1", "0", "0"]


def test_mount_points_are_made_in_a_read_only_root_too(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("volume\n")
    document = config(
        *("cat", "/new/place/x"),
        mounts=[*MOUNTS, bind(tmp_path, "/new/place")],
        root={"path": "rootfs", "readonly": True},
    )
    assert stage.output(document) == "volume\n"


@pytest.mark.busybox
def test_volumes(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("outside\n")
    places = [
        bind(tmp_path, "/vol"),
        bind(tmp_path, "/vol-ro", "ro"),
        bind(tmp_path / "file", "/etc/one"),
        bind(tmp_path / "file", "/etc/hostname", "ro"),
    ]
    script = """
        cat /vol/file /etc/one /etc/hostname
        echo in >/vol/made; echo $?
        (echo in >/vol-ro/file) 2>/dev/null; echo $?
        (echo in >/etc/hostname) 2>/dev/null; echo $?
        echo changed >/etc/one; echo $?
    """
    said = stage.output(shell(script, mounts=[*MOUNTS, *places]))
    assert said.split() == ["outside"] * 3 + ["0", "1", "1", "0"]
    assert (tmp_path / "made").read_text() == "in\n"
    assert (tmp_path / "file").read_text() == "changed\n"


def test_a_volume_that_came_as_a_mount(stage: Stage, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "late", tmp_path], check=True)
    try:
        (tmp_path / "found").write_text("found\n")
        tree = mounts.open_tree(mounts.AT_FDCWD, str(tmp_path), mounts.OPEN_TREE_CLONE)
        document = config("cat", "/vol/found", mounts=[*MOUNTS, bind(tmp_path, "/vol", "ro")])
        container = stage.start(document, trees=[str(tmp_path)], fds=[tree])
        os.close(tree)
        container.ended()
        assert container.log("stdout") == b"found\n"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_is_mounted_below_a_volume(rootfs: Path, tmp_path: Path) -> None:
    """rbind brings it along, bind does not."""
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", below], check=True)
    try:
        (below / "x").touch()
        with opened(rootfs, [below]) as stage:
            deep, flat = bind(tmp_path, "/deep"), bind(tmp_path, "/flat")
            flat["options"] = ["bind"]
            said = stage.output(shell("ls /deep/below; echo -; ls /flat/below", mounts=[*MOUNTS, deep, flat]))
            assert said.split() == ["x", "-"]
    finally:
        subprocess.run(["umount", below], check=True)


def test_mounts_inside_stay_inside(stage: Stage, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    stage.start(config("sleep", "60", mounts=[*MOUNTS, bind(tmp_path, "/vol")]))
    assert Path("/proc/self/mountinfo").read_text() == before


def test_nothing_of_the_machines_mounts_is_seen_inside(stage: Stage) -> None:
    lines = stage.output(config("cat", "/proc/self/mountinfo")).splitlines()
    targets = [line.split()[4] for line in lines]
    assert targets[0] == "/"
    assert {target.split("/")[1] for target in targets} == {"", "proc", "dev", "sys"}
    assert " - overlay " in lines[0]
    # And nothing of it propagates.
    assert not [line for line in lines if "shared:" in line or "master:" in line]


def test_options_of_the_usual_mounts(stage: Stage) -> None:
    lines = stage.output(config("cat", "/proc/self/mounts")).splitlines()
    options = {line.split()[1]: set(line.split()[3].split(",")) for line in lines}
    assert {"nosuid", "noexec", "nodev", "rw"} <= options["/proc"]
    assert {"nosuid", "noexec", "nodev", "ro"} <= options["/sys"]
    assert {"nosuid", "mode=755", "size=65536k"} <= options["/dev"]
    assert "noexec" not in options["/dev"]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= options["/dev/pts"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= options["/proc/sys"]


def test_devices(stage: Stage) -> None:
    names = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
    links_of = "for link in fd stdin stdout stderr ptmx; do readlink $link; done"
    script = f"cd /dev; stat -c '%n %a %t:%T %F' {' '.join(names)}; {links_of}"
    said = stage.output(shell(script)).splitlines()
    expected = [f"{name} 666 {number} character special file" for name, number in names.items()]
    links = ["/proc/self/fd", *(f"/proc/self/fd/{number}" for number in range(3)), "pts/ptmx"]
    assert said == expected + links


def test_devices_of_the_config(stage: Stage) -> None:
    devices = [
        {"type": "c", "path": "/dev/mine", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"type": "p", "path": "/dev/deep/fifo"},
        {"type": "b", "path": "/srv/disk", "major": 7, "minor": 250},
    ]
    script = "stat -c '%a %t:%T %u %g %F' /dev/mine /dev/deep/fifo /srv/disk"
    assert stage.output(shell(script, linux={"devices": devices})).splitlines() == [
        "640 1:5 7 8 character special file",
        "666 0:0 0 0 fifo",
        "666 7:fa 0 0 block special file",
    ]


def test_devices_without_a_mount_on_dev(stage: Stage) -> None:
    assert "null" in stage.output(config("ls", "/dev", mounts=[MOUNTS[0]])).split()


def test_devices_in_an_image_without_dev(stage: Stage) -> None:
    """config-linux.md, "Default Devices": the runtime MUST supply them."""
    container = stage.prepare()
    bare = container.base / "bare"
    subprocess.run(["cp", "-a", stage.rootfs, bare], check=True)
    (bare / "dev").rmdir()
    root = container.root._replace(lower=[str(bare)])
    stage.spawn(container, stage.template(config("ls", "/dev", mounts=[MOUNTS[0]])), root=[root])
    container.ended()
    assert b"null" in container.log("stdout").split()


def test_masked_paths_are_masked(stage: Stage) -> None:
    masked = ["/proc/version", "/proc/stat", "/sys/firmware", "/etc/passwd", "/etc/nothing-here"]
    script = """
        for file in /proc/version /proc/stat /etc/passwd; do
            head -c 100 $file | wc -c
            (echo x >$file) && echo absorbed
        done
        ls /sys/firmware | wc -l
        touch /sys/firmware/x 2>/dev/null || echo kept
        test -e /etc/nothing-here || echo absent
    """
    said = stage.output(shell(script, linux={"maskedPaths": masked}))
    assert said.split() == ["0", "absorbed"] * 3 + ["0", "kept", "absent"]


def test_read_only_paths_are_read_only(stage: Stage) -> None:
    script = """
        before=$(cat /proc/sys/net/ipv4/ip_forward)
        (echo $((1 - before)) >/proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo written
        (echo h >/proc/sysrq-trigger) 2>/dev/null && echo written
        (echo x >/etc/passwd) 2>/dev/null && echo written
        touch /etc/new 2>/dev/null && echo written
        [ "$(cat /proc/sys/net/ipv4/ip_forward)" = "$before" ] || echo changed
    """
    paths = ["/proc/sys", "/proc/sysrq-trigger", "/etc", "/no/such/thing"]
    assert stage.output(shell(script, linux={"readonlyPaths": paths})) == ""


def test_cgroup_mounts(stage: Stage) -> None:
    said = stage.output(shell("ls /sys/fs/cgroup; cat /proc/self/cgroup; touch /sys/fs/cgroup/x 2>&1 || true"))
    if stage.hierarchies[0].version == 2:
        assert "cgroup.procs" in said
    else:
        assert {"memory", "pids", "cpu"} <= set(said.split())
        # The container's own cgroups are the roots that it sees.
        assert {line.split(":")[2] for line in said.splitlines() if ":memory:" in line or ":pids:" in line} == {"/"}
    assert "Read-only file system" in said


def test_its_own_limits_are_seen_inside(stage: Stage) -> None:
    version = stage.hierarchies[0].version
    path = "/sys/fs/cgroup/memory/memory.limit_in_bytes" if version == 1 else "/sys/fs/cgroup/memory.max"
    document = config("cat", path, linux={"resources": {"memory": {"limit": 64 << 20}}})
    assert int(stage.output(document)) == 64 << 20


@pytest.mark.parametrize(
    ("propagation", "root", "below"),
    [
        *((word, "", "") for word in ("", "private", "rprivate", "slave", "rslave")),
        ("shared", "shared", ""),
        ("rshared", "shared", "shared"),
        ("unbindable", "unbindable", ""),
        ("runbindable", "unbindable", "unbindable"),
    ],
)
def test_rootfs_propagation(stage: Stage, propagation: str, root: str, below: str) -> None:
    lines = stage.output(config("cat", "/proc/self/mountinfo", linux={"rootfsPropagation": propagation})).splitlines()
    fields = {line.split()[4]: line.split(" - ")[0].split()[6:] for line in lines}
    assert [field.partition(":")[0] for field in fields["/"]] == ([root] if root else [])
    assert [field.partition(":")[0] for field in fields["/dev/shm"]] == ([below] if below else [])


def test_a_mount_on_the_root_itself_is_the_root(stage: Stage, tmp_path: Path) -> None:
    """In the order of the mounts: what comes behind it is mounted in it."""
    subprocess.run(["cp", "-a", stage.rootfs, tmp_path / "other"], check=True)
    (tmp_path / "other/etc/hostname").write_text("other\n")
    copied = {"destination": "//.", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}
    bound = bind(tmp_path / "other", "/")
    assert stage.output(config("cat", "/etc/hostname", mounts=[bound, *MOUNTS])) == "other\n"
    said = stage.output(shell("cat /etc/hostname; touch /new; cat /proc/mounts", mounts=[bound, copied, *MOUNTS]))
    assert said.startswith("other\n")
    assert [line.split()[2] for line in said.splitlines() if line.split()[1:2] == ["/"]] == ["tmpfs"]
    assert not (tmp_path / "other/new").exists()
    with pytest.raises(StartFailed, match="run sh: no such file"):
        stage.start(shell("true", mounts=[{**copied, "options": []}]))
