"""Images that lay traps: whatever they hold, nothing outside of the root is touched, and the error is clear."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimd.wire.messages import ExecFailed
from tests.shimd.configs import MOUNTS, config, process_of
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
        assert said == f"mount {kind} on /{path}: too many levels of symbolic links"


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
    """The path is looked for inside: it is not there, and nothing is made at the machine's."""
    tmpfs = {"destination": "/x", "type": "tmpfs", "source": "t"}
    said = refused(laid(stage, {"x": str(victim)}), config("true", mounts=[*MOUNTS, tmpfs]))
    assert said == "mount tmpfs on /x: no such file or directory"


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
    outward = laid(stage, {"vol": str(victim)})
    assert "bind" in refused(outward, config("true", mounts=[*MOUNTS, volume]))


def test_a_file_target_that_is_a_symlink_to_a_file_of_the_machine(stage: Stage, victim: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("volume\n")
    volume = {"destination": "/etc/resolv.conf", "type": "bind", "source": str(source), "options": ["bind"]}
    container = laid(stage, {"etc/resolv.conf": f"{victim}/secret"})
    assert "bind" in refused(container, config("true", mounts=[*MOUNTS, volume]))


def test_targets_with_dots(stage: Stage, victim: Path) -> None:
    tmpfs = {"destination": f"/../../..{victim}", "type": "tmpfs", "source": "t"}
    container = begin(laid(stage, {}), config("true", mounts=[*MOUNTS, tmpfs]))
    container.ended()
    assert (container.base / f"upper{victim}").is_dir()


def test_masks_through_symlinks(stage: Stage, victim: Path) -> None:
    linux = {"maskedPaths": ["/a"], "readonlyPaths": ["/b"]}
    container = begin(laid(stage, {"a": str(victim), "b": f"{victim}/secret"}), config("true", linux=linux))
    assert container.ended().record.code == 0


def test_devices_through_symlinks(stage: Stage, victim: Path) -> None:
    device = {"type": "c", "path": "/x/null", "major": 1, "minor": 3}
    said = refused(laid(stage, {"x": str(victim)}), config("true", linux={"devices": [device]}))
    assert said == "create device /x/null: no such file or directory"


def test_a_device_over_something_else(stage: Stage) -> None:
    device = {"type": "c", "path": "/etc/passwd", "major": 1, "minor": 3}
    assert "/etc/passwd: file exists" in refused(laid(stage, {}), config("true", linux={"devices": [device]}))


def test_cwd_through_symlinks(stage: Stage, victim: Path) -> None:
    said = refused(laid(stage, {"work": str(victim)}), config("true", process={"cwd": "/work"}))
    assert said == "create directory /work: no such file or directory"


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
        assert trouble.deed == "change to directory", trouble
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
