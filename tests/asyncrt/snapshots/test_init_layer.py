"""The init layer as files: what is in it, whose /etc it stands for, who shares it."""

import os
from pathlib import Path

import pytest

from asyncrt.snapshots.init_layer import InitLayers
from asyncrt.snapshots.sources import Source

pytestmark = pytest.mark.root


@pytest.fixture
def layers(tmp_path: Path) -> InitLayers:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    return InitLayers(tmp_path / "engine/init", tmp_path / "resolv.conf")


def image(place: Path) -> Source:
    (place / "etc").mkdir(parents=True)
    (place / "etc/hosts").write_text("the image's")
    return Source("image", str(place))


def test_its_files_and_the_directory_that_it_stands_for(layers: InitLayers, tmp_path: Path) -> None:
    source = image(tmp_path / "image")
    etc = tmp_path / "image/etc"
    etc.chmod(0o2750)
    os.chown(etc, 5, 6)
    os.setxattr(etc, "user.mark", b"x")
    os.utime(etc, ns=(1, 10**18 + 7))
    found = Path(layers.under(source).init) / "etc"
    status = found.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns) == (0o2750, 5, 6, 10**18 + 7)
    assert os.getxattr(found, "user.mark") == b"x"
    assert sorted(os.listdir(found)) == ["hostname", "hosts", "resolv.conf"]
    assert (found / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert (found / "hosts").read_text().startswith("127.0.0.1\tlocalhost\n")
    assert os.readlink(found / "hostname") == "/proc/sys/kernel/hostname"
    assert (found / "hosts").stat().st_mode & 0o7777 == 0o644


def test_it_is_shared_by_those_who_need_the_same(layers: InitLayers, tmp_path: Path) -> None:
    one, other = image(tmp_path / "one"), image(tmp_path / "other")
    for source in (one, other):
        os.utime(Path(source.path) / "etc", ns=(1, 2))
    first = layers.under(one).init
    assert layers.under(other).init == first
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.2\n")
    assert layers.under(one).init != first
    assert Path(first, "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\n", "a mount may stand on it"


def test_who_has_none(layers: InitLayers, tmp_path: Path) -> None:
    (tmp_path / "strange/usr/etc").mkdir(parents=True)
    (tmp_path / "strange/etc").symlink_to("usr/etc")
    assert layers.under(Source("image", str(tmp_path / "strange"))).init == ""
    assert layers.under(Source("host", "/")).init == "", "overlayfs takes no layer that lies in another"
    assert layers.under(Source("rootfs", str(tmp_path))).init == ""


def test_an_image_without_etc_and_a_machine_without_resolv_conf(layers: InitLayers, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "resolv.conf").unlink()
    found = Path(layers.under(Source("image", str(tmp_path / "bare"))).init) / "etc"
    assert found.stat().st_mode & 0o7777 == 0o755
    assert (found / "resolv.conf").read_bytes() == b""


def test_sweep(layers: InitLayers, tmp_path: Path) -> None:
    kept = layers.under(image(tmp_path / "image")).init
    (layers.directory / "new.1.1").mkdir()
    layers.sweep(all=False)
    assert os.listdir(layers.directory) == [os.path.basename(kept)]
    layers.sweep(all=True)
    assert os.listdir(layers.directory) == []
