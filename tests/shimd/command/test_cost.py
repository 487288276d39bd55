"""create + start + delete as commands cost less CPU than runc's, in the same minutes on the same machine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shimd.command.installed import is_built

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not is_built(), reason="the front is not built for this machine"),
    pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed: nothing to compare with"),
]

PROJECT = Path(__file__).resolve().parents[3]
ROUNDS = 8
MOST = 0.8  # of runc's; 0.3 is usual, the rest is for what else the machine does


def test_three_commands_cost_less_than_runcs() -> None:
    words = [sys.executable, str(PROJECT / "bench/oci.py"), "--rounds", str(ROUNDS), "--peers", "runc"]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:]}
    ratio = float(rows["runc"][-1].rstrip("x"))
    assert ratio < MOST, done.stdout
