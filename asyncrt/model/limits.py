"""The limits that are asked for less often, in docker's words; the usual ones stand in options.py."""

from __future__ import annotations

import msgspec


class DeviceRate(msgspec.Struct, frozen=True):
    """A number for one block device, by its path on the machine: bytes or operations a second, or a weight."""

    path: str
    rate: int


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is 0, empty or unset is not asked for.

    `memory_swap` counts memory and swap together, in bytes (unset: twice the memory; -1: swap without limit).
    `memory_reservation` is what the kernel tries to leave it. `memory_swappiness` (0 to 100) and `oom_kill_disable`
    exist on cgroup v1 alone. `oom_score_adj` is of the process, -1000 to 1000.

    `cpu_shares` is a weight (1024 is normal), `cpu_period` and `cpu_quota` are microseconds (`cpus` says both at once).
    `blkio_weight` is 10 to 1000. `unified` holds FILE=VALUE, written to cgroup v2 as it is.
    """

    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_mems: str = ""
    blkio_weight: int = 0
    blkio_weight_device: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    unified: tuple[str, ...] = ()

    def changed(self) -> dict[str, object]:
        """What is asked for, by name."""
        plain = Limits()
        pairs = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in pairs.items() if value != getattr(plain, name)}
