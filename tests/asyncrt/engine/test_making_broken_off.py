"""A commit, import or copy that is broken off: by kill -9 of the supervisor, by its caller, by a full disk."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.asyncrt.engine.test_contents import BASE, blobs, run, says
from tests.asyncrt.engine.test_contents import base as base
from tests.asyncrt.engine.test_contents import based as based
from tests.asyncrt.engine.test_images import archive, layer
from tests.engine import Engine
from tests.patience import until

pytestmark = pytest.mark.root


def test_killed_in_the_middle_of_a_commit(engine: Engine, rootfs: Path, tmp_path: Path) -> None:
    """Nothing is seen half made, and nothing of it is left after the next start."""
    engine.cli("load", "-i", archive(tmp_path / "b.tar", [layer({}, rootfs)], {"Cmd": ["true"]}, BASE), check=True)
    id = run(engine, "dd if=/dev/urandom of=/big bs=1M count=60 2>/dev/null")
    before = blobs(engine)
    for _ in range(3):
        commit = engine.popen("commit", id, "new:1")
        until(lambda: blobs(engine) != before, "the layer is being written")
        os.kill(engine.supervisor_pid(), signal.SIGKILL)
        commit.communicate(timeout=30)
        assert [one["name"] for one in engine.json("images")] == [BASE]
        assert blobs(engine) == before
    engine.cli("commit", id, "new:1", check=True)
    assert says(engine, "new:1", "sh", "-c", "wc -c < /big") == f"{60 << 20}\n"


def test_a_caller_who_leaves_a_commit(base: Engine) -> None:
    id = run(base, "dd if=/dev/urandom of=/big bs=1M count=60 2>/dev/null")
    before = blobs(base)
    commit = base.popen("commit", id, "new:1")
    until(lambda: blobs(base) != before, "the layer is being written")
    commit.kill()
    commit.communicate(timeout=30)
    until(lambda: blobs(base) == before, "it is taken back")


def test_a_full_disk(engine: Engine, rootfs: Path, tmp_path: Path) -> None:
    """An image that does not fit is not there at all, one line says why, and what was written is given back."""
    made = archive(tmp_path / "b.tar", [layer({}, rootfs)], {"Cmd": ["true"]}, BASE)
    engine.root.mkdir()
    size = 16 * 2**20 + 3 * made.stat().st_size
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", engine.root], check=True)
    try:
        engine.cli("load", "-i", made, check=True)
        id = run(engine, "dd if=/dev/urandom of=/big bs=1M count=12 2>/dev/null")
        before = blobs(engine)
        (tmp_path / "big").write_bytes(os.urandom(12 << 20))
        for words in (["commit", id, "new:1"], ["cp", tmp_path / "big", f"{id}:/other"], ["import", tmp_path / "big"]):
            refused = engine.cli(*words)
            assert refused.returncode == 1
            assert "no space left" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
            assert blobs(engine) == before
        assert engine.cli("diff", id, check=True).stdout == "A /big\n"
        engine.cli("cp", f"{id}:/big", tmp_path / "out", check=True)
        engine.cli("rm", "-f", "--all", check=True)
        engine.cli("daemon", "stop", check=True)
    finally:
        subprocess.run(["umount", engine.root], check=True)
