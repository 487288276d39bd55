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
# All but those that skip everything here or take the longest: events, update, userns.
FILES = (
    *("cgroups", "create", "cwd", "debug", "delete", "dev", "exec", "help", "hooks", "kill", "list", "mask", "mounts"),
    *("mounts_recursive", "no_pivot", "pause", "ps", "root", "run", "seccomp", "seccomp-notify", "start"),
    *("start_detached", "start_hello", "state", "tty", "umask", "version"),
)
PASSES = 100
SECONDS = 600
IMAGES = ("busybox.tar", "debian.tar")
TOOLS = ("bats", "jq", "gawk", "gcc", "script")
COMMAND = Path(sys.executable).with_name("asyncrt-oci")


def sources() -> Path | str:
    """The newest sources of runc in the cache, or what is missing here."""
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"not installed: {' '.join(missing)}"
    cache = Path(os.environ.get("FOREIGN_CACHE") or Path.home() / ".cache/asyncrt-foreign")
    found = sorted(path.parent for path in cache.glob("runc-*/made"))
    if not found or not all((cache / image).exists() for image in IMAGES):
        return f"no sources of runc with images in {cache}: sh tests/foreign/prepare.sh runc"
    return found[-1]


def test_a_subset_of_runcs_suite(tmp_path: Path) -> None:
    """The whole is `just suite-runc`. Less than two minutes."""
    tree = sources()
    if isinstance(tree, str):
        pytest.skip(tree)
    # A lock that the caller may hold is not to be waited for.
    env = {name: value for name, value in os.environ.items() if name != "FOREIGN_LOCK"}
    done = subprocess.run(
        ["sh", HERE / "runc.sh", *(f"{name}.bats" for name in FILES)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**env, "RUNTIME": str(COMMAND), "FOREIGN_TREE": str(tree), "FOREIGN_RESULTS": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    document = taps.read(tmp_path)
    assert sum(taps.counts(cases)["pass"] for cases in document["files"].values()) >= PASSES
    unexplained = [case for case, _, why in taps.explained(document) if not why]
    assert not unexplained, "\n".join(taps.failures(document))
