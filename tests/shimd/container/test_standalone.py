"""Which bundles have a script, and that what another process gets of it is laid out for its address."""

import struct
from pathlib import Path
from typing import Any

import pytest

from shimd.container import bundle, home, standalone_encoders
from shimd.container.standalone import Standing, compile_standalone
from shimd.container.waiting import FindProgram
from shimd.linux.cgroups import Hierarchy
from shimd.spec.validate import load
from tests.shimd.configs import MOUNTS, config

V1 = [Hierarchy(1, f"/sys/fs/cgroup/{name}", (name,)) for name in ("cpu", "memory", "devices", "freezer", "cpuset")]
BASE = 0x400000


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("app:x:1000:1000::/home/app:/bin/sh\n")
    return tmp_path


def scripted(rootfs: Path, **changes: Any) -> Standing | None:
    document = config("sh", "-c", "true", **changes)
    document["root"] = {"path": str(rootfs)}
    plan = bundle.compile(load(document), V1, bundle.Wish())
    return compile_standalone(plan, "id", "/id", str(rootfs))


def test_the_usual_has_a_script_that_waits(rootfs: Path) -> None:
    made = scripted(rootfs)
    assert made is not None
    assert [path for _, path in made.made] == [f"{tree.mount}/id" for tree in V1]
    numbers = [cell.number for cell in made.held]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert {row.code for row in made.words} == {126, 127}


def test_addresses_are_those_of_the_base(rootfs: Path) -> None:
    """Every cell that points points into the image, and a move of the base moves them all."""
    first, second = (scripted(rootfs) for _ in range(2))
    assert first is not None
    assert second is not None
    images = [first.image(BASE), second.image(BASE + 4096)]
    assert len(images[0].data) == len(images[1].data)
    count = len(first.code._cells)
    cells = [struct.unpack_from(f"={count}q", image.data) for image in images]
    moved = [(one, other) for one, other in zip(*cells, strict=True) if one != other]
    assert moved
    assert all(other - one == 4096 and BASE <= one < BASE + len(images[0].data) for one, other in moved)


def test_joined_namespaces_and_those_of_the_machine(rootfs: Path) -> None:
    joined = {"type": "network", "path": "/proc/self/ns/net"}
    assert scripted(rootfs, namespaces=["mount", "pid", joined]) is not None
    assert scripted(rootfs, namespaces=["mount", {"type": "pid", "path": "/proc/self/ns/pid"}]) is None
    assert scripted(rootfs, namespaces=["mount"]) is None


def test_hooks_of_init_have_none(rootfs: Path) -> None:
    for moment, has in (("startContainer", False), ("createContainer", False), ("poststop", True)):
        made = scripted(rootfs, hooks={moment: [{"path": "/bin/true"}]})
        assert (made is not None) == has, moment


def home_in(made: Standing | None) -> bytes:
    assert made is not None
    data = bytes(made.code._data)
    place = data.index(b"HOME=")
    return data[place : data.index(b"\0", place)]


def test_home_is_the_root_file_systems(rootfs: Path) -> None:
    assert home_in(scripted(rootfs, process={"user": {"uid": 1000, "gid": 0}})) == b"HOME=/home/app"
    assert home_in(scripted(rootfs)) == b"HOME=" + home.FALLBACK.encode()
    over = {"destination": "/etc", "type": "tmpfs", "options": ["mode=755"]}
    assert scripted(rootfs, mounts=[*MOUNTS, over]) is None
    (rootfs / "etc/passwd").unlink()
    (rootfs / "etc/passwd").symlink_to("/etc/shadow")
    assert scripted(rootfs) is None


def test_what_is_scripted_stands_in_the_tables() -> None:
    assert FindProgram in standalone_encoders.ENCODERS
    assert not set(standalone_encoders.ENCODERS) & set(standalone_encoders.OUTSIDE)
