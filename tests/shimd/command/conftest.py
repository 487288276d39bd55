"""The runtime under test: see runtime.py."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shimd.command.runtime import Runtime, opened


@pytest.fixture
def oci(rootfs: Path) -> Iterator[Runtime]:
    """asyncrt-oci with a root of its own; at the end its containers are deleted."""
    with opened(rootfs) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def image(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test root as one layer's tar."""
    path = tmp_path_factory.mktemp("image") / "rootfs.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(path), "."], check=True)
    return path
