"""Limits: flags to the spec's resources."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from asyncrt.engine import limits
from asyncrt.errors import BadRequest
from asyncrt.model.options import Options
from shimd.spec.config import Cpu, Memory, Pids, Resources

CPUS = len(limits._online())


def resources(**asked: Any) -> Resources:
    return limits.resources(Options(image="host:", **asked))


@pytest.mark.parametrize("none", [0, -1])
def test_no_limit_writes_nothing(none: int) -> None:
    assert resources(memory=none, pids_limit=none, cpus=none) == Resources()


@pytest.mark.parametrize(("counted", "swap"), [(True, 128 << 20), (False, None)])
def test_swap_is_as_much_as_memory_where_it_is_counted(
    monkeypatch: pytest.MonkeyPatch, counted: bool, swap: int | None
) -> None:
    monkeypatch.setattr(limits, "swap_is_counted", lambda: counted)
    assert resources(memory=64 << 20).memory == Memory(limit=64 << 20, swap=swap)


def test_swap_accounting_is_read_from_the_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = limits.swap_is_counted.__wrapped__
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    assert not counted()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    assert counted()
    (tmp_path / "cgroup.controllers").touch()
    assert not counted()
    (tmp_path / "machine.slice").mkdir()
    (tmp_path / "machine.slice/memory.swap.max").touch()
    assert counted()


def test_cpus_are_a_quota_of_dockers_period() -> None:
    assert resources(cpus=0.5).cpu == Cpu(quota=50_000, period=100_000)
    assert resources(cpus=0.01).cpu == Cpu(quota=1_000, period=100_000)
    assert resources(cpus=float(CPUS), cpuset_cpus="0").cpu == Cpu(quota=CPUS * 100_000, period=100_000, cpus="0")
    assert resources(cpuset_cpus=f"0-{CPUS - 1}").cpu == Cpu(cpus=f"0-{CPUS - 1}")
    assert resources(pids_limit=7).pids == Pids(7)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"memory": 1000}, "read --memory: 1000 bytes are too few"),
        ({"memory": -2}, "--memory"),
        ({"cpus": 0.001}, "read --cpus: 0.001 cannot be given"),
        ({"cpus": CPUS + 1.0}, f"from 0.01 to {CPUS}, as this machine has {CPUS}"),
        ({"cpus": -2.0}, "--cpus"),
        ({"cpus": math.nan}, "--cpus"),
        ({"cpus": math.inf}, "--cpus"),
        ({"cpuset_cpus": "one"}, 'read --cpuset-cpus: "one" is no list of cpus'),
        ({"cpuset_cpus": "1-0"}, "is no list of cpus"),
        ({"cpuset_cpus": "0,"}, "is no list of cpus"),
        ({"cpuset_cpus": "0-1:1/2"}, "is no list of cpus"),
        ({"cpuset_cpus": "0,99999"}, "this machine has no cpu 99999"),
        ({"pids_limit": -2}, "--pids-limit"),
    ],
)
def test_what_cannot_be_given_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        resources(**asked)


def test_without_sysfs_the_interpreter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert limits._online() == set(range(os.cpu_count() or 1))
