"""Two stages that differ in one thing: one starts containers by script, the other by the reference executor."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from shimd.linux import mounts as mounts_of_linux
from tests.shimd.stage import Container, Stage, opened


class Pair(NamedTuple):
    """Two stages that differ in one thing; `bind` is a directory that both keep."""

    scripted: Stage
    reference: Stage
    bind: Path


@pytest.fixture(scope="module")
def pairs(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if not mounts_of_linux.overlay_appends():
        pytest.skip("this kernel's overlay takes no layers one by one (Linux 6.7): the reference starts all containers")
    place = tmp_path_factory.mktemp("bind")
    (place / "inner").mkdir()
    (place / "file").write_text("of the machine\n")
    with opened(rootfs, [place]) as one, opened(rootfs, [place], scripts=False) as other:
        yield Pair(one, other, place)


@pytest.fixture
def pair(pairs: Pair) -> Iterator[Pair]:
    """Cleared after the test; a shim that wrote to stderr fails it."""
    yield pairs
    for one in pairs[:2]:
        assert one.zygote.poll() is None
        one.empty()
        assert not one.complaints()


def by_script(container: Container) -> bool:
    """Was no child of the shim reaped (proc_pid_stat(5), cminflt)? The reference reaps its midwife."""
    fields = Path(f"/proc/{container.shim_pid}/stat").read_text().rpartition(")")[2].split()
    return fields[8] == "0"
