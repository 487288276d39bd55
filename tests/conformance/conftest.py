"""The suite's fixtures: the runtime under test, and a bundle for each test.

    OCI_RUNTIME=crun pytest tests/conformance        any runtime; without it the project's asyncrt-oci

What a runtime is known not to keep stands in deviations.py with its reason: the test must then fail, and one that
passes after all is an error, so that the table stays true.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import deviations
from tests.conformance.bundle import Bundle, static_program
from tests.conformance.runtime import REFUSES_HYBRID, Room, Runtime, name_of, program

HERE = Path(__file__).parent
numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE) and item.get_closest_marker("root")]
    if not ours or os.geteuid() != 0:
        return
    path = program()
    missing = [tool for tool in ("cc", "nsenter", "unshare") if not shutil.which(tool)]
    why = "no runtime: set OCI_RUNTIME, or install asyncrt-oci" if path is None else ""
    if missing:
        why = f"missing: {' '.join(missing)}"
    elif not compiles_static():
        why = "cc cannot make a static program here: libc6-dev"
    known = deviations.of(name_of(path)) if path and not why else {}
    for item in ours:
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
        elif reason := deviations.reason(known, f"{item.path.stem}::{item.name}"):
            strict = not reason.startswith(deviations.AT_TIMES)
            item.add_marker(pytest.mark.xfail(reason=reason, strict=strict))


def compiles_static() -> bool:
    """Does the compiler find a C library and its headers?"""
    source = '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n'
    words = ["cc", "-static", "-x", "c", "-o", os.devnull, "-"]
    return subprocess.run(words, input=source, capture_output=True, text=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def room() -> Iterator[Room]:
    """The namespaces in which the runtime is started."""
    path = program()
    assert path is not None
    made = Room(without_cgroup2=name_of(path) in REFUSES_HYBRID)
    yield made
    made.close()


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory for bundles, on which nobody else sits; users of a user namespace may pass through it."""
    with tempfile.TemporaryDirectory(prefix=f"asyncrt-{os.getpid()}-conformance-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
def witness(place: Path) -> Path:
    """The program inside the bundles, built once."""
    return static_program(HERE / "witness.c", place / "witness")


@pytest.fixture(scope="session")
def runtime(room: Room, place: Path) -> Runtime:
    """The runtime under test."""
    path = program()
    assert path is not None
    (place / "state").mkdir(mode=0o700)
    return Runtime(path, room, place / "state")


@pytest.fixture
def bundle(runtime: Runtime, place: Path, witness: Path) -> Iterator[Bundle]:
    """A bundle that asks for little; its containers, cgroups and files are gone after the test."""
    number = next(numbers)
    made = Bundle(place / f"b{os.getpid()}-{number}", runtime, witness, f"/asyncrt-conformance-{os.getpid()}-{number}")
    yield made
    made.close()
