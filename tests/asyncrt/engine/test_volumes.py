"""Volumes: bind mounts among the default mounts."""

from pathlib import Path

import pytest

from asyncrt.engine import defaults, volumes
from asyncrt.errors import BadRequest, NoSuchObject
from asyncrt.model.options import Volume
from shimd.spec.config import Mount


def test_without_volumes_the_mounts_are_the_defaults() -> None:
    assert volumes.mounts(()) == defaults.MOUNTS


def test_volumes_are_private_binds_parents_first(tmp_path: Path) -> None:
    source = str(tmp_path)
    asked = [
        Volume(source, "/b/inner"),
        Volume(source, "/b//./", read_only=True),
        Volume(source, "/a/x/../../a/b/c"),
    ]
    assert volumes.mounts(asked)[len(defaults.MOUNTS) :] == (
        Mount("/b", "bind", source, ("rbind", "rprivate", "ro", "rro")),
        Mount("/b/inner", "bind", source, ("rbind", "rprivate")),
        Mount("/a/b/c", "bind", source, ("rbind", "rprivate")),
    )


def test_a_volume_takes_the_place_of_a_default_mount(tmp_path: Path) -> None:
    destinations = [mount.destination for mount in volumes.mounts([Volume(str(tmp_path), "/dev/shm/")])]
    assert destinations.count("/dev/shm") == 1
    assert destinations[-1] == "/dev/shm"


def test_a_file_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert volumes.mounts([Volume(f"{tmp_path}/file", "/etc/file")])[-1].source == f"{tmp_path}/file"


@pytest.mark.parametrize(
    "target", ["", "data", "./data", "/", "//", "/..", "/a/..", "/proc", "/proc/1", "/x/../dev", "/a\0"]
)
def test_where_nothing_can_be_mounted(tmp_path: Path, target: str) -> None:
    with pytest.raises(BadRequest, match="mount volume"):
        volumes.mounts([Volume(str(tmp_path), target)])


def test_two_volumes_on_one_target(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"mount volume .*:/a: another volume has this target"):
        volumes.mounts([Volume(str(tmp_path), "/a"), Volume("/tmp", "/a/")])


def test_a_source_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject, match=r"/no: the source does not exist \(make it first: mkdir -p"):
        volumes.mounts([Volume(f"{tmp_path}/no", "/a")])
    assert not (tmp_path / "no").exists()
    with pytest.raises(BadRequest, match="the source is no absolute path"):
        volumes.mounts([Volume("data", "/a")])
    with pytest.raises(BadRequest, match="null"):
        volumes.mounts([Volume("/a\0", "/a")])
