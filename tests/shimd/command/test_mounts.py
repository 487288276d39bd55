"""Mount options that are crun's, and that podman writes: binds that follow no symlink, id maps inside an option."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.shimd.command.runtime import Runtime
from tests.shimd.configs import MOUNTS, NAMESPACES, config, maps

pytestmark = pytest.mark.root

C = f"asyncrt-oci-{os.getpid()}-mounts"


@pytest.fixture
def outside(oci: Runtime) -> Path:
    """A directory with a file, a symlink to it and one to nothing; it is /tmp in the containers."""
    place = oci.folder / "outside"
    place.mkdir()
    (place / "file").write_text("of the file\n")
    (place / "link").symlink_to(place / "file")
    (place / "broken").symlink_to("nowhere")
    oci.folder.chmod(0o755)
    return place


def bundle(oci: Runtime, outside: Path, mount: dict[str, Any], *args: str, **more: Any) -> str:
    mounts = [*MOUNTS, {"destination": "/tmp", "type": "bind", "source": str(outside), "options": ["bind"]}]
    return str(oci.bundle(config(*args, mounts=[*mounts, {"type": "bind", **mount}], **more)))


def strangers() -> dict[str, Any]:
    return {"namespaces": [*NAMESPACES, "user"], "linux": maps(0)}


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("option", ["src-nofollow", ""])
def test_binds_on_a_symlink_itself(oci: Runtime, outside: Path, option: str, user: bool) -> None:
    """Without dest-nofollow the mount would be where the link leads to."""
    mount = {"source": str(outside / "link"), "destination": "/tmp/broken"}
    mount |= {"options": ["bind", "dest-nofollow", *filter(None, [option])]}
    words = ("readlink", "/tmp/broken") if option else ("cat", "/tmp/broken")
    place = bundle(oci, outside, mount, *words, **(strangers() if user else {}))
    assert oci.must("run", "-b", place, C).stdout == (f"{outside}/file\n" if option else "of the file\n")
    assert not (outside / "nowhere").exists()


def test_what_is_not_there_is_made(oci: Runtime, outside: Path) -> None:
    mount = {"source": str(outside / "link"), "destination": "/tmp/new", "options": ["bind", "dest-nofollow"]}
    assert oci.must("run", "-b", bundle(oci, outside, mount, "cat", "/tmp/new"), C).stdout == "of the file\n"


def test_no_link_of_procfs_is_covered(oci: Runtime, outside: Path) -> None:
    """Who writes to /proc/self would write there (CVE-2025-52881)."""
    options = ["bind", "dest-nofollow", "src-nofollow"]
    mount = {"source": str(outside / "broken"), "destination": "/proc/self", "options": options}
    said = oci.fails("run", "-b", bundle(oci, outside, mount, "true"), C)
    assert "nothing is mounted on a link of procfs" in said


@pytest.mark.parametrize("user", [False, True])
def test_a_symlink_is_made_anew(oci: Runtime, outside: Path, user: bool) -> None:
    """Whatever it means: that is for the container to find out."""
    mount = {"source": str(outside / "broken"), "destination": "/tmp/a/copy", "options": ["rbind", "copy-symlink"]}
    place = bundle(oci, outside, mount, "readlink", "/tmp/a/copy", **(strangers() if user else {}))
    for _ in range(2):  # the second finds one that says the same
        assert oci.must("run", "-b", place, C).stdout == "nowhere\n"
    mount["destination"] = "/tmp/file"
    said = oci.fails("run", "-b", bundle(oci, outside, mount, "true"), C)
    assert "file exists" in said


def test_copy_symlink_of_a_file_is_a_bind(oci: Runtime, outside: Path) -> None:
    mount = {"source": str(outside / "file"), "destination": "/tmp/bound", "options": ["bind", "copy-symlink"]}
    assert oci.must("run", "-b", bundle(oci, outside, mount, "cat", "/tmp/bound"), C).stdout == "of the file\n"


def test_a_file_system_has_no_symlink_to_follow(oci: Runtime, outside: Path) -> None:
    mount = {"type": "tmpfs", "source": "tmpfs", "destination": "/tmp", "options": ["dest-nofollow"]}
    assert "dest-nofollow: for binds alone" in oci.fails("run", "-b", bundle(oci, outside, mount, "true"), C)


def test_an_id_map_inside_the_option(oci: Runtime, outside: Path) -> None:
    os.chown(outside / "file", 7, 8)
    options = ["bind", "idmap=uids=7-1000-1#0-2000-1;gids=8-1001-1"]
    mount = {"source": str(outside), "destination": "/var", "options": options}
    result = oci("run", "-b", bundle(oci, outside, mount, "stat", "-c", "%u:%g", "/var/file"), C)
    if "takes no id map on this kernel" in result.errors:
        pytest.skip(result.errors)
    assert result.stdout == "1000:1001\n"
    mount["options"] = ["bind", "idmap=uids=7-1000;gids=8-1001-1"]
    assert "is no id map" in oci.fails("run", "-b", bundle(oci, outside, mount, "true"), C)
