"""Image references that name directories."""

from pathlib import Path

import pytest

from asyncrt.errors import BadRequest, NoSuchObject
from asyncrt.snapshots.sources import Source, hidden_paths, parse


def test_the_two_kinds(tmp_path: Path) -> None:
    assert parse("host:") == Source("host", "/")
    assert parse(f"rootfs:{tmp_path}") == Source("rootfs", str(tmp_path))


def test_symlinks_in_the_path_are_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert parse(f"rootfs:{tmp_path}/link/../link/") == Source("rootfs", f"{tmp_path}/real")


@pytest.mark.parametrize("reference", ["busybox", "docker.io/library/busybox:latest", "", ":", "hosts:", "host"])
def test_an_unknown_kind_is_refused(reference: str) -> None:
    with pytest.raises(BadRequest, match=r'unknown image source ".*" \(known are host: and rootfs:/PATH\)'):
        parse(reference)


@pytest.mark.parametrize(
    ("reference", "cause"),
    [
        ("host:/srv", "host: takes no path"),
        ("rootfs:", "no path is given"),
        ("rootfs:srv/busybox", '"srv/busybox" is no absolute path'),
        ("rootfs:./x", '"./x" is no absolute path'),
        ("rootfs:/etc/passwd", "it is no directory"),
        ("rootfs:/etc/passwd/x", "a part of the path is no directory"),
        ("rootfs:/etc\0/x", "null"),
        ("rootfs:/" + "x" * 300, "file name too long"),
    ],
)
def test_a_bad_path_is_refused(reference: str, cause: str) -> None:
    with pytest.raises(BadRequest, match=cause):
        parse(reference)


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject, match=f"find image rootfs:{tmp_path}/no: the directory does not exist"):
        parse(f"rootfs:{tmp_path}/no")


def test_the_engines_directories_are_hidden_where_they_can_be_seen(tmp_path: Path) -> None:
    image = tmp_path / "image"
    root, state = image / "var/lib/asyncrt", image / "run/asyncrt"
    for directory in (root, state):
        directory.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(root)
    seen = ("/run/asyncrt", "/var/lib/asyncrt")
    assert hidden_paths(parse(f"rootfs:{image}"), root, state) == seen
    assert hidden_paths(parse(f"rootfs:{image}"), link, state) == seen
    assert hidden_paths(parse("host:"), root, state) == (f"{image}/run/asyncrt", f"{image}/var/lib/asyncrt")
    assert hidden_paths(parse("host:"), root, root / "state") == (f"{image}/var/lib/asyncrt",)
    (tmp_path / "ima").mkdir()
    assert hidden_paths(parse(f"rootfs:{tmp_path}/ima"), root, state) == ()
