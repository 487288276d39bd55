"""Images that lay traps: whatever they hold, nothing outside of the root is touched, and the error is clear."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimd.container import mounts
from shimd.wire.messages import ExecFailed
from tests.shimd.configs import MOUNTS, config, process_of
from tests.shimd.direct import in_a_child
from tests.shimd.line import read_all
from tests.shimd.stage import Container, Stage, StartFailed

pytestmark = pytest.mark.root


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A directory of the machine that must stay as it is: each test ends with a look at it."""
    place = tmp_path / "victim"
    place.mkdir()
    (place / "secret").write_text("secret\n")
    yield place
    assert sorted(os.listdir(place)) == ["secret"]
    assert (place / "secret").read_text() == "secret\n"
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]


def laid(stage: Stage, links: dict[str, str]) -> Container:
    """A container whose image has these symlinks, by path."""
    container = stage.prepare()
    layer = container.base / "layer"
    layer.mkdir()
    for path, target in links.items():
        (layer / path).parent.mkdir(parents=True, exist_ok=True)
        (layer / path).symlink_to(target)
    container.root = container.root._replace(lower=[str(layer), str(stage.rootfs)])
    return container


def begin(container: Container, document: dict[str, Any]) -> Container:
    stage = container.stage
    stage.spawn(container, stage.template(document))
    container.started()
    return container


def refused(container: Container, document: dict[str, Any]) -> str:
    with pytest.raises(StartFailed) as caught:
        begin(container, document)
    assert container.gone() == []
    assert container.stage.left_of(container) == []
    assert "bug" not in str(caught.value)
    return str(caught.value)


def test_dev_as_a_symlink_to_the_machine(stage: Stage, victim: Path) -> None:
    for target in (str(victim), f"../../../../../../..{victim}", "/proc/1/root/tmp"):
        assert "/dev: " in refused(laid(stage, {"dev": target}), config("true"))


def test_dev_as_a_symlink_within_the_root(stage: Stage) -> None:
    said = refused(laid(stage, {"dev": "/etc"}), config("true"))
    assert said == "create default devices in /dev: too many levels of symbolic links"


@pytest.mark.parametrize(("path", "kind"), [("proc", "proc"), ("sys", "sysfs")])
def test_proc_and_sys_as_symlinks(stage: Stage, victim: Path, path: str, kind: str) -> None:
    """Masks and read-only paths lie below: elsewhere they would protect nothing (CVE-2019-19921)."""
    for target in (str(victim), "/tmp", "nowhere"):
        said = refused(laid(stage, {path: target}), config("true"))
        assert said == f"mount {kind} on /{path}: it must be mounted on ordinary directory, not by way of a symlink"


def test_a_mount_target_through_a_symlink(stage: Stage, victim: Path) -> None:
    """/tmp/x -> /etc is the container's own /etc; an absolute target starts at its root."""
    tmpfs = {"destination": "/tmp/x/y", "type": "tmpfs", "source": "t", "options": ["size=64k"]}
    script = 'while read -r a b c d place rest; do echo "$place"; done </proc/self/mountinfo'
    for target in ("/etc", "../etc", "../../../../../etc"):
        container = begin(laid(stage, {"tmp/x": target}), config("sh", "-c", script, mounts=[*MOUNTS, tmpfs]))
        container.ended()
        assert b"/etc/y" in container.log("stdout").split()
    assert not Path("/etc/y").exists()


def test_a_mount_target_that_points_to_the_machine(stage: Stage, victim: Path) -> None:
    """The path is looked for inside; it is not there, and is made there: what a link means, it means in the root."""
    tmpfs = {"destination": "/x", "type": "tmpfs", "source": "t"}
    for target in (str(victim / "new"), f"../../../../../..{victim}/new"):
        container = begin(laid(stage, {"x": target}), config("cat", "/proc/self/mountinfo", mounts=[*MOUNTS, tmpfs]))
        container.ended()
        assert f" {victim}/new ".encode() in container.log("stdout")
        assert (container.base / f"upper{victim}/new").is_dir()


def test_a_mount_target_that_leads_in_circles(stage: Stage) -> None:
    """Each link dangles until the one before is made."""
    links = {f"l{number}": f"/l{number + 1}/x" for number in range(60)}
    tmpfs = {"destination": "/l0", "type": "tmpfs", "source": "t"}
    said = refused(laid(stage, links), config("true", mounts=[*MOUNTS, tmpfs]))
    assert said == "mount tmpfs on /l0: too many levels of symbolic links"
    said = refused(laid(stage, {"a": "b", "b": "a"}), config("true", mounts=[*MOUNTS, {**tmpfs, "destination": "/a"}]))
    assert said == "mount tmpfs on /a: too many levels of symbolic links"


@pytest.mark.parametrize("file", [False, True])
def test_a_volume_target_through_an_absolute_symlink(stage: Stage, victim: Path, tmp_path: Path, file: bool) -> None:
    source = tmp_path / "source"
    (source if file else source / "x").parent.mkdir(exist_ok=True)
    (source if file else source / "x").write_text("volume\n")
    volume = {"destination": "/vol/here", "type": "bind", "source": str(source), "options": ["rbind"]}
    words = ("cat", "/var/here" if file else "/var/here/x")
    container = begin(laid(stage, {"vol": "/var"}), config(*words, mounts=[*MOUNTS, volume]))
    container.ended()
    assert container.log("stdout") == b"volume\n"
    outward = begin(laid(stage, {"vol": str(victim)}), config(*words, mounts=[*MOUNTS, volume]))
    outward.ended()
    assert (outward.base / f"upper{victim}/here").exists()


def test_a_file_target_that_is_a_symlink_to_a_file_of_the_machine(stage: Stage, victim: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("volume\n")
    volume = {"destination": "/etc/resolv.conf", "type": "bind", "source": str(source), "options": ["bind"]}
    container = begin(
        laid(stage, {"etc/resolv.conf": f"{victim}/secret"}),
        config("cat", "/etc/resolv.conf", mounts=[*MOUNTS, volume]),
    )
    container.ended()
    assert container.log("stdout") == b"volume\n"
    assert (container.base / f"upper{victim}/secret").read_text() == ""


def test_targets_with_dots(stage: Stage, victim: Path) -> None:
    tmpfs = {"destination": f"/../../..{victim}", "type": "tmpfs", "source": "t"}
    container = begin(laid(stage, {}), config("true", mounts=[*MOUNTS, tmpfs]))
    container.ended()
    assert (container.base / f"upper{victim}").is_dir()


def test_masks_through_symlinks(stage: Stage, victim: Path) -> None:
    linux = {"maskedPaths": ["/a"], "readonlyPaths": ["/b"]}
    container = begin(laid(stage, {"a": str(victim), "b": f"{victim}/secret"}), config("true", linux=linux))
    assert container.ended().record.code == 0


def test_a_masked_path_that_is_a_symlink_masks_what_it_means(stage: Stage) -> None:
    """Else whoever makes the image reads by the target's name what was to be hidden."""
    script = "for path in /etc/passwd /etc/group; do wc -c <$path; done; ls /home/app /bin 2>/dev/null | wc -l"
    links = {"a": "/etc/passwd", "b": "../../etc/group", "c": "/d", "d": "home/../bin"}
    linux = {"maskedPaths": ["/a", "/b", "/home"], "readonlyPaths": []}
    container = begin(laid(stage, links), config("sh", "-c", script, linux=linux))
    container.ended()
    assert container.log("stdout").split()[:2] == [b"0", b"0"]
    assert b"/home/app" not in container.log("stdout")


@pytest.mark.parametrize("kind", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("path", ["/proc/self/root/etc", "/proc/self/fd/3", "/proc/1/cwd", "/loop/x"])
def test_masks_through_magic_links_and_loops(stage: Stage, kind: str, path: str) -> None:
    """/proc's own links lead out of the root; a loop leads nowhere. Both are refused, not left out."""
    linux = {"maskedPaths": [], "readonlyPaths": [], kind: [path]}
    said = refused(laid(stage, {"loop": "/loop"}), config("true", linux=linux))
    assert said.endswith(f"{path}: too many levels of symbolic links")


@pytest.mark.parametrize("target", ["/proc/self/root", "/proc/self/cwd", "/proc/self/fd/3", "/proc/1/root"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "file", "cgroup", "overlay"])
def test_mount_targets_through_magic_links(stage: Stage, victim: Path, target: str, kind: str) -> None:
    """By the path itself and by a symlink of the image that leads there."""
    source = f"{victim}/secret" if kind == "file" else str(victim)
    options = ["bind"] if kind in ("bind", "file") else [f"lowerdir={victim}"] if kind == "overlay" else []
    kind = "bind" if kind == "file" else kind
    for place in (f"{target}/x", "/link/x"):
        entry = {"destination": place, "type": kind, "source": source, "options": options}
        said = refused(laid(stage, {"link": target}), config("true", mounts=[*MOUNTS, entry]))
        assert said.endswith(f"{place}: too many levels of symbolic links")


def test_a_copied_directory_is_not_left_by_symlinks(stage: Stage, victim: Path) -> None:
    """tmpcopyup reads the image; what is a link there is a link here."""
    links = {"data/out": str(victim), "data/up": f"../../../../../../..{victim}/secret", "data/proc": "/proc/1/root"}
    entry = {"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup"]}
    document = config("sh", "-c", "cd /data; for name in *; do readlink $name; done", mounts=[*MOUNTS, entry])
    container = begin(laid(stage, links), document)
    container.ended()
    assert container.log("stdout").decode().split() == [links["data/out"], links["data/proc"], links["data/up"]]


def test_proc_covered_by_a_tmpfs(stage: Stage) -> None:
    """What is set by way of /proc is set by way of the machine's, before (CVE-2019-19921)."""
    cover = {"destination": "/proc", "type": "tmpfs", "source": "t", "options": ["mode=755"]}
    document = config(
        *("sleep", "60"),
        mounts=[*MOUNTS, cover],
        process={"oomScoreAdj": 300},
        linux={"sysctl": {"net.ipv4.ip_default_ttl": "33"}},
    )
    judge_proc(begin(laid(stage, {}), document))


def test_a_proc_of_the_images_own(stage: Stage) -> None:
    """Without a procfs: a tree of files by the same names stays as it is."""
    container = laid(stage, {"proc/self/fd/0": "/dev/null"})
    forged = container.base / "layer/proc"
    (forged / "sys/net/ipv4").mkdir(parents=True)
    files = [forged / "self/oom_score_adj", forged / "sys/net/ipv4/ip_default_ttl"]
    for file in files:
        file.write_text("forged")
    document = config(
        *("sleep", "60"),
        mounts=[mount for mount in MOUNTS if mount["destination"] != "/proc"],
        process={"oomScoreAdj": 300},
        linux={"sysctl": {"net.ipv4.ip_default_ttl": "33"}},
    )
    judge_proc(begin(container, document))
    assert not (container.base / "upper/proc/self").exists()
    assert not (container.base / "upper/proc/sys/net").exists()


def judge_proc(container: Container) -> None:
    """The score and the sysctl, as the machine sees them."""
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == "300\n"
    seen = ["nsenter", f"--net=/proc/{container.pid}/ns/net", "cat", "/proc/sys/net/ipv4/ip_default_ttl"]
    assert subprocess.run(seen, check=True, capture_output=True, text=True).stdout == "33\n"


@pytest.mark.parametrize("kind", ["another device", "a file", "a symlink", "a fifo"])
def test_a_null_device_that_is_none(stage: Stage, victim: Path, kind: str) -> None:
    """The image's own /dev: its /dev/null masks nothing, and is not taken for one (CVE-2025-31133)."""
    container = laid(stage, {})
    place = container.base / "layer/dev/null"
    place.parent.mkdir()
    if kind == "another device":
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "a file":
        place.touch()
    elif kind == "a symlink":
        place.symlink_to(victim / "secret")
    else:
        os.mkfifo(place)
    said = refused(container, config("true", mounts=[MOUNTS[0]], linux={"maskedPaths": ["/etc/passwd"]}))
    assert said == "create default devices in /dev: file exists"


def test_a_mask_is_the_machines_null_device_and_that_is_looked_at() -> None:
    """Somebody put another device there: nothing is masked with it."""

    def deed() -> None:
        subprocess.run(["mount", "--bind", "/dev/zero", "/dev/null"], check=True)
        with pytest.raises(PermissionError, match="it is not the null device"):
            mounts.null_device()

    in_a_child(deed)


def test_what_a_mask_is_made_of(stage: Stage) -> None:
    """Whatever the image has as /dev/null."""
    linux = {"maskedPaths": ["/etc/passwd"], "readonlyPaths": []}
    script = "stat -c %t:%T /etc/passwd; ls /proc/self/fd | wc -l"
    container = begin(laid(stage, {"etc/null": "/dev/zero"}), config("sh", "-c", script, linux=linux))
    container.ended()
    # 0, 1, 2 and that of ls itself: nothing that the runtime held (CVE-2024-21626).
    assert container.log("stdout").split() == [b"1:3", b"4"]


def test_devices_through_symlinks(stage: Stage, victim: Path) -> None:
    device = {"type": "c", "path": "/x/null", "major": 1, "minor": 3}
    container = begin(laid(stage, {"x": str(victim)}), config("true", linux={"devices": [device]}))
    container.ended()
    assert (container.base / f"upper{victim}/null").is_char_device()


def test_a_device_over_something_else(stage: Stage) -> None:
    device = {"type": "c", "path": "/etc/passwd", "major": 1, "minor": 3}
    assert "/etc/passwd: file exists" in refused(laid(stage, {}), config("true", linux={"devices": [device]}))


def test_cwd_through_symlinks(stage: Stage, victim: Path) -> None:
    container = begin(laid(stage, {"work": str(victim)}), config("pwd", process={"cwd": "/work"}))
    container.ended()
    assert container.log("stdout").decode() == f"{victim}\n"


@pytest.mark.parametrize("number", range(3, 16))
def test_a_cwd_outside_of_the_root(stage: Stage, number: int) -> None:
    """/proc/self/fd/N of what the shim still holds while init is set up (CVE-2024-21626)."""
    document = config("pwd", process={"cwd": f"/proc/self/fd/{number}"})
    assert f"/proc/self/fd/{number}: " in refused(laid(stage, {}), document)


def test_a_cwd_by_a_symlink_to_such_an_fd(stage: Stage) -> None:
    for number in range(3, 16):
        refused(laid(stage, {"leak": f"/proc/self/fd/{number}"}), config("pwd", process={"cwd": "/leak/sub"}))


def test_an_exec_whose_cwd_lies_outside(stage: Stage) -> None:
    box = stage.start(config("sleep", "60"))
    for number in range(3, 20):
        out, _ = box.exec(f"e{number}", process_of("pwd", cwd=f"/proc/self/fd/{number}"))
        trouble = box.expect(ExecFailed).trouble
        assert trouble.deed == "chdir to", trouble
        assert read_all(out) == b""


def test_a_program_by_an_fd_of_the_shim(stage: Stage) -> None:
    """`/proc/self/exe` at that moment is the engine's own interpreter (CVE-2019-5736)."""
    container = stage.prepare()
    stage.spawn(container, stage.template(config("/proc/self/exe", "-c", "print('escaped')")))
    with contextlib.suppress(StartFailed):
        container.started()
        container.ended()
    assert b"escaped" not in container.log("stdout")


def test_the_machines_processes_are_not_seen(stage: Stage) -> None:
    box = stage.start(config("sleep", "60"))
    out, _ = box.exec("ps", process_of("sh", "-c", "ls -d /proc/[0-9]*"))
    assert len(read_all(out).split()) <= 3
