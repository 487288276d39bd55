"""host: the machine's own root as an image, which no container can change."""

import os
from pathlib import Path

import pytest

from tests.engine import Engine

pytestmark = pytest.mark.root

MARK = Path("/asyncrt-test-wrote-this")


def test_a_program_of_the_machine(shared: Engine) -> None:
    done = shared.cli("run", "host:", "/bin/cat", "/etc/os-release", check=True)
    assert done.stdout == Path("/etc/os-release").read_text()


def test_what_is_written_stays_inside(shared: Engine) -> None:
    script = f"echo x > {MARK} && cat {MARK} && rm /etc/hostname; ls /etc/hostname; echo new > /etc/motd; cat /etc/motd"
    before = os.stat("/etc"), Path("/etc/motd").read_bytes() if Path("/etc/motd").exists() else None
    there = Path("/etc/hostname").exists()
    done = shared.cli("run", "--name", "writer", "host:", "/bin/sh", "-c", script)
    assert done.stdout == "x\nnew\n"
    assert not MARK.exists()
    assert Path("/etc/hostname").exists() == there
    after = os.stat("/etc"), Path("/etc/motd").read_bytes() if Path("/etc/motd").exists() else None
    assert before[0].st_mtime_ns == after[0].st_mtime_ns
    assert before[1] == after[1]


def test_the_engines_own_directories_are_hidden(shared: Engine) -> None:
    """Through `host:` a container would see every other container's files, and the records."""
    assert (shared.root / "metadata.db").exists()
    script = f"ls -A {shared.root} {shared.state}; cat {shared.root}/metadata.db"
    done = shared.cli("run", "host:", "/bin/sh", "-c", script)
    assert "metadata.db" not in done.stdout
    assert "shims" not in done.stdout
    assert "SQLite" not in done.stdout
    assert done.returncode != 0


def test_many_at_once(shared: Engine) -> None:
    done = shared.cli("run", "--count", "20", "host:", "/bin/sh", "-c", f"echo $ASYNCRT_INDEX > {MARK}; cat {MARK}")
    assert done.returncode == 0, shared.story(done)
    assert sorted(int(line.split()[-1]) for line in done.stdout.splitlines()) == list(range(20))
    assert not MARK.exists()


def test_no_device_or_module_of_the_machine(shared: Engine) -> None:
    done = shared.cli("run", "host:", "/bin/ls", "/dev", check=True)
    assert {"null", "zero", "full", "random", "urandom", "tty", "pts", "shm"} <= set(done.stdout.split())
    assert not [name for name in done.stdout.split() if name.startswith(("vd", "sd", "nvme", "mem", "kmsg"))]
