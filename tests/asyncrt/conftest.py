"""An engine that stands for a whole module, for the tests that need nothing of their own from it."""

from collections.abc import Iterator

import pytest

from tests import leaks
from tests.engine import Engine, closed
from tests.patience import until


@pytest.fixture(scope="module")
def house(rootfs: object) -> Iterator[Engine]:
    """Its supervisor and zygote run before the first test counts what there is, and go after the last one did."""
    before = leaks.snapshot()
    made = Engine()
    made.cli("run", "--rm", f"rootfs:{rootfs}", "true", check=True)
    until(lambda: not made.ids(), "the first container is removed")
    yield made
    closed(made)
    if left := leaks.settle(before):
        pytest.fail("the module left something behind:\n" + "\n".join(left), pytrace=False)


@pytest.fixture
def shared(house: Engine) -> Iterator[Engine]:
    """The module's engine; a test's containers are removed after it, and the leak counter looks."""
    yield house
    house.cli("rm", "--force", "--all", check=True, timeout=120)


@pytest.fixture
def image(rootfs: object) -> str:
    """The image reference of the busybox root file system."""
    return f"rootfs:{rootfs}"
