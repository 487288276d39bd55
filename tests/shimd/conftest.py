"""The stage: see stage.py."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shimd.stage import Stage, opened


@pytest.fixture(scope="module")
def theatre(rootfs: Path) -> Iterator[Stage]:
    """One zygote for the tests of a module."""
    with opened(rootfs) as made:
        yield made


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """The module's stage, cleared after the test; a shim that wrote to stderr fails it."""
    assert theatre.zygote.poll() is None, "an earlier test killed the zygote"
    yield theatre
    theatre.empty()
    assert not theatre.complaints()


@pytest.fixture
def copy(rootfs: Path, tmp_path: Path) -> Path:
    """A root of the test's own: a bound one is written to."""
    place = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", rootfs, place], check=True)
    return place
