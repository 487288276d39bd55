"""Limits: flags to the spec's resources."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from asyncrt.engine import limits
from asyncrt.errors import BadRequest
from asyncrt.model.limits import DeviceRate, Limits
from asyncrt.model.options import Options
from shimd.spec.config import Cpu, Memory, Pids, Resources
from shimd.spec.resources import DeviceRule

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
    assert resources(cpus=0.5).cpu == Cpu(shares=512, quota=50_000, period=100_000)
    assert resources(cpus=0.01).cpu == Cpu(shares=10, quota=1_000, period=100_000)
    assert resources(cpus=float(CPUS), cpuset_cpus="0").cpu == Cpu(quota=CPUS * 100_000, period=100_000, cpus="0")
    assert resources(cpuset_cpus=f"0-{CPUS - 1}").cpu == Cpu(cpus=f"0-{CPUS - 1}")
    assert resources(pids_limit=7).pids == Pids(7)


@pytest.mark.parametrize(
    ("quota", "period", "given", "shares"),
    [(5000, 100_000, 0, 51), (1000, 1_000_000, 0, 2), (99_999, 0, 0, 1023), (100_000, 0, 0, None), (5000, 0, 9, 9)],
)
def test_a_weight_goes_with_a_quota_of_less_than_a_core(
    quota: int, period: int, given: int, shares: int | None
) -> None:
    asked = Limits(cpu_quota=quota, cpu_period=period, cpu_shares=given)
    assert resources(limits=asked).cpu.shares == shares


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
        ({"limits": Limits(memory_swap=1 << 30)}, "read --memory-swap: it counts memory and swap together"),
        ({"memory": 64 << 20, "limits": Limits(memory_swap=32 << 20)}, "at least the 67108864 of --memory"),
        ({"memory": 64 << 20, "limits": Limits(memory_reservation=65 << 20)}, "at most the 67108864 of --memory"),
        ({"limits": Limits(memory_swappiness=101)}, "read --memory-swappiness: 101 cannot be given"),
        ({"limits": Limits(oom_kill_disable=True)}, "read --oom-kill-disable: .*would stand still"),
        ({"limits": Limits(cpu_shares=1)}, "read --cpu-shares: 1 cannot be given"),
        ({"limits": Limits(cpu_period=999)}, "read --cpu-period: 999 us cannot be given"),
        ({"limits": Limits(cpu_quota=999)}, "read --cpu-quota: 999 us cannot be given"),
        ({"cpus": 1.0, "limits": Limits(cpu_quota=5000)}, "read --cpus: it is quota and period in one"),
        ({"limits": Limits(cpuset_mems="a")}, "is no list of memory nodes"),
        ({"limits": Limits(cpuset_mems="4000")}, "this machine has no memory node 4000"),
        ({"limits": Limits(blkio_weight=9)}, "read --blkio-weight: 9 cannot be given"),
        ({"limits": Limits(blkio_weight_device=(DeviceRate("/dev/null", 9),))}, "9 for /dev/null cannot be given"),
        ({"limits": Limits(device_read_bps=(DeviceRate("/dev/null", 9),))}, "/dev/null is no block device"),
        ({"limits": Limits(device_write_iops=(DeviceRate("/dev/nowhere", 9),))}, "no such file or directory"),
        ({"limits": Limits(device_write_iops=(DeviceRate("/dev/null", 0),))}, "0 for /dev/null cannot be given"),
        ({"limits": Limits(unified=("memory.high",))}, '"memory.high" is no FILE=VALUE'),
        ({"limits": Limits(unified=("../x=1",))}, "is no FILE=VALUE"),
    ],
)
def test_what_cannot_be_given_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        resources(**asked)


def test_rarer_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "swap_is_counted", lambda: True)
    wish = Limits(memory_swap=-1, memory_reservation=32 << 20, memory_swappiness=0, oom_kill_disable=True)
    memory = resources(memory=64 << 20, limits=wish).memory
    assert memory == Memory(64 << 20, reservation=32 << 20, swap=-1, swappiness=0, disable_oom_killer=True)
    cpu = resources(limits=Limits(cpu_shares=512, cpu_period=50_000, cpu_quota=10_000, cpuset_mems="0")).cpu
    assert cpu == Cpu(shares=512, quota=10_000, period=50_000, mems="0")
    assert resources(limits=Limits(blkio_weight=10)).block_io.weight == 10
    assert resources(limits=Limits(unified=("memory.high=1=2",))).unified == {"memory.high": "1=2"}
    assert resources(memory=64 << 20, limits=Limits(memory_swap=64 << 20)).memory.swap == 64 << 20
    monkeypatch.setattr(limits, "swap_is_counted", lambda: False)
    assert resources(memory=64 << 20, limits=Limits(memory_swap=-1)).memory.swap is None
    with pytest.raises(BadRequest, match="this kernel does not count swap"):
        resources(memory=64 << 20, limits=Limits(memory_swap=64 << 20))


def test_a_parent_of_its_own_brings_device_rules() -> None:
    assert resources().devices == ()
    assert resources(cgroup_parent="/mine").devices == (DeviceRule(False),)


def test_without_sysfs_the_interpreter_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert limits._online() == set(range(os.cpu_count() or 1))
