"""What every test stands on: the reaper, the `root` marker, the leak counter, a root file system, an
engine."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, reaper
from tests import rootfs as rootfs_maker
from tests.engine import Engine, closed


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    # Who starts this in the background of a shell has it ignore these, and so would every command under test.
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # The reaper stays behind with the streams as they are now: the real ones, pytest does not capture yet.
    reaper.split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not rootfs_maker.has_busybox():
        for item in items:
            if item.get_closest_marker("busybox"):
                item.add_marker(pytest.mark.skip(reason="needs busybox-static (its words, or more of its programs)"))
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=f"needs root (this is uid {os.geteuid()})"))


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Root tests leave the machine as it was. Set up before, and torn down after, every other fixture of a
    test."""
    if not request.node.get_closest_marker("root"):
        yield
        return
    before = leaks.snapshot()
    yield
    if left := leaks.settle(before):
        pytest.fail("the machine is not what it was before this test:\n" + "\n".join(left), pytrace=False)


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A root file system's directory (tests/rootfs.py). Nobody writes to it: the leak counter looks."""
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-rootfs-", dir="/tmp") as place:
        path = Path(place)
        path.chmod(0o755)
        yield rootfs_maker.build(path)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with places of its own; at the end its containers are removed and it is stopped."""
    made = Engine()
    yield made
    closed(made)
