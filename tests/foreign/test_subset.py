"""A part of runc's suite over asyncrt-oci, where its sources were fetched before: no failure without a reason."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.foreign import taps

pytestmark = [pytest.mark.root, pytest.mark.slow]

HERE = Path(__file__).parent
FILES = (
    *("create", "cwd", "delete", "kill", "list", "pause", "ps", "root", "run", "start", "start_detached"),
    *("start_hello", "state", "tty", "umask", "update"),
)
COMMAND = Path(sys.executable).with_name("asyncrt-oci")


def sources() -> Path | None:
    """The newest sources of runc in the cache."""
    cache = Path(os.environ.get("FOREIGN_CACHE") or Path.home() / ".cache/asyncrt-foreign")
    found = sorted(path.parent for path in cache.glob("runc-*/made"))
    return found[-1] if found else None


def test_a_subset_of_runcs_suite(tmp_path: Path) -> None:
    """The whole is `just suite-runc`."""
    tree = sources()
    if tree is None or not shutil.which("bats"):
        pytest.skip("wants bats and the sources of runc: sh tests/foreign/prepare.sh runc")
    done = subprocess.run(
        ["sh", HERE / "runc.sh", *(f"{name}.bats" for name in FILES)],
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "RUNTIME": str(COMMAND), "FOREIGN_TREE": str(tree), "FOREIGN_RESULTS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    document = taps.read(tmp_path)
    assert sum(taps.counts(cases)["pass"] for cases in document["files"].values()) > len(FILES)
    unexplained = [case for case, _, why in taps.explained(document) if not why]
    assert not unexplained, "\n".join(taps.failures(document))
