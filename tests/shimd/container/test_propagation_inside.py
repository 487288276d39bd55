"""Mounts that machine and container share, or one of them hears of; and containers in mounts that are not their own."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.shimd.configs import MOUNTS, config, maps, mount, shell
from tests.shimd.direct import Direct, in_a_child
from tests.shimd.line import until
from tests.shimd.stage import Stage, StartFailed

pytestmark = pytest.mark.root


def look(volume: Path, rootfs: Path, *options: str, **changes: Any) -> tuple[str, bool]:
    """(what the container sees of a mount that the machine made below the volume, does the machine see its?)"""
    script = "mount -t tmpfs inner /vol/inner; read line; ls /vol/outer"
    capabilities = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]
    document = shell(
        script,
        namespaces=["mount", "pid", *changes.pop("namespaces", [])],
        mounts=[*MOUNTS[:2], mount("bind", volume, "/vol", *options)],
        process={"capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities)},
        linux={"maskedPaths": [], "readonlyPaths": [], **changes},
    )
    with Direct(document, rootfs) as container:
        subprocess.run(["mount", "-t", "tmpfs", "outer", volume / "outer"], check=True)
        (volume / "outer/seen").touch()
        said = container.ask("go")
        mountinfo = Path("/proc/self/mountinfo").read_text()
        subprocess.run(["umount", volume / "outer"], check=True)
    return said.strip(), str(volume / "inner") in mountinfo


@pytest.mark.parametrize(
    ("option", "user", "hears", "tells"),
    [
        ("", False, "", False),
        ("rprivate", False, "", False),
        ("rslave", False, "seen", False),
        ("slave", False, "seen", False),
        ("rshared", False, "seen", True),
        ("shared", False, "seen", True),
        ("rshared", True, "seen", False),
        ("rslave", True, "seen", False),
    ],
)
def test_propagation(copy: Path, tmp_path: Path, option: str, user: bool, hears: str, tells: bool) -> None:
    """A container in a user namespace never adds to the machine's mounts."""
    for name in ("outer", "inner"):
        (tmp_path / "volume" / name).mkdir(parents=True)
    changes = {"namespaces": ["user"], **maps(0)} if user else {}
    options = ["rbind", *([option] if option else [])]
    in_a_child(
        lambda: _equal(look(tmp_path / "volume", copy, *options, **changes), (hears, tells)),
        shared=True,
    )


def _equal(found: object, expected: object) -> None:
    assert found == expected


@pytest.mark.parametrize(("word", "hears"), [("", False), ("slave", True), ("rslave", True), ("shared", False)])
def test_the_root_of_a_bundle_on_a_shared_mount(copy: Path, word: str, hears: bool) -> None:
    def deed() -> None:
        linux = {"rootfsPropagation": word, "maskedPaths": [], "readonlyPaths": []}
        document = shell("read line; ls /srv", namespaces=["mount", "pid"], mounts=[MOUNTS[0]], linux=linux)
        before = Path("/proc/self/mountinfo").read_text()
        with Direct(document, copy) as container:
            assert Path("/proc/self/mountinfo").read_text() == before
            subprocess.run(["mount", "-t", "tmpfs", "srv", copy / "srv"], check=True)
            (copy / "srv/seen").touch()
            assert container.ask("go") == ("seen\n" if hears else "")
            subprocess.run(["umount", copy / "srv"], check=True)

    (copy / "srv").mkdir()
    in_a_child(deed, shared=True)


def test_a_container_in_the_runtimes_mounts(copy: Path, tmp_path: Path) -> None:
    """chroot; what it mounted below its root goes with it, what was mounted there before stays."""
    for name in ("vol", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "vol/file").write_text("volume\n")

    def deed() -> None:
        # As engines give it: a mount of its own.
        layers = f"lowerdir={copy},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "over", copy], check=True)
        linux = {"maskedPaths": [], "readonlyPaths": []}
        mounts = [MOUNTS[0], mount("bind", tmp_path / "vol", "/vol", "bind", "ro")]
        script = "read line; cat /vol/file /etc/hostname; touch /vol/x /x 2>&1; readlink /proc/self/ns/mnt"
        root = {"path": "rootfs", "readonly": True}
        document = shell(script, namespaces=["pid"], mounts=mounts, linux=linux, root=root)
        before = Path("/proc/self/mountinfo").read_text()
        with Direct(document, copy) as container:
            said = container.ask("go")
            assert said.startswith("volume\nimage\n")
            assert said.count("Read-only") == 2
            assert os.readlink("/proc/self/ns/mnt") in said
        assert Path("/proc/self/mountinfo").read_text() == before

    in_a_child(deed, shared=True)
    in_a_child(deed)


def test_an_exec_in_the_runtimes_mounts(stage: Stage, copy: Path) -> None:
    container = stage.prepare()
    container.root = container.root._replace(kind="bind", lower=[str(copy)], upper="", work="")
    (copy / "tmp/only-here").touch()
    before = Path(f"/proc/{stage.zygote.pid}/mountinfo").read_text()
    linux = {"maskedPaths": [], "readonlyPaths": []}
    document = config("sleep", "60", namespaces=["pid"], mounts=[MOUNTS[0]], linux=linux, root={"path": str(copy)})
    stage.spawn(container, stage.template(document))
    assert container.run_inside("sh", "-c", "cat /etc/hostname; pwd; ls -d /tmp/*") == "image\n/\n/tmp/only-here\n"
    container.kill()
    container.ended()
    assert container.gone() == []
    assert Path(f"/proc/{stage.zygote.pid}/mountinfo").read_text() == before


def test_the_machines_own_root_is_never_taken(stage: Stage) -> None:
    container = stage.prepare()
    container.root = container.root._replace(kind="bind", lower=["/"], upper="", work="")
    linux = {"maskedPaths": [], "readonlyPaths": []}
    stage.spawn(container, stage.template(config("true", namespaces=["pid"], mounts=[], linux=linux)))
    with pytest.raises(StartFailed, match="the machine's own root needs a mount namespace"):
        container.started()


@pytest.mark.busybox
def test_a_mount_namespace_by_path(stage: Stage, tmp_path: Path) -> None:
    """Its root is looked for in there, its mounts are made there."""
    volume = mount("bind", tmp_path, "/vol", "bind")
    owner = stage.start(config("sleep", "60", mounts=[*MOUNTS, volume]))
    subprocess.run(["cp", "-a", stage.rootfs, tmp_path / "inner"], check=True)
    guest = stage.prepare()
    guest.root = guest.root._replace(kind="bind", lower=["/vol/inner"], upper="", work="")
    document = shell(
        "cat /etc/hostname; ls -d /vol /tmp/new 2>&1; readlink /proc/self/ns/mnt; sleep 60",
        namespaces=["pid", {"type": "mount", "path": f"/proc/{owner.pid}/ns/mnt"}],
        mounts=[MOUNTS[0], mount("tmpfs", "t", "/tmp/new", "size=64k")],
        linux={"maskedPaths": ["/etc/passwd"], "readonlyPaths": []},
    )
    stage.spawn(guest, stage.template(document))
    guest.started()
    assert guest.run_inside("cat", "/etc/hostname", "/etc/passwd") == "image\n"
    assert until(lambda: b"mnt:" in guest.log("stdout"))
    said = guest.log("stdout").decode()
    assert said.splitlines()[0] == "image"
    assert "/vol: No such file" in said
    assert os.readlink(f"/proc/{owner.pid}/ns/mnt") in said
    assert "/vol/inner/tmp/new" in owner.run_inside("cat", "/proc/self/mountinfo")
