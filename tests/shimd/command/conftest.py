"""The runtime under test: see runtime.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shimd.command.runtime import Runtime, opened


@pytest.fixture
def oci(rootfs: Path) -> Iterator[Runtime]:
    """asyncrt-oci with a root of its own; at the end its containers are deleted."""
    with opened(rootfs) as runtime:
        yield runtime
