"""The rarer limits as docker's flags, of run, create and update, and the Limits that they make."""

from __future__ import annotations

import re
from typing import Any

from asyncrt.cli.flags import Flag, Words
from asyncrt.errors import BadRequest
from asyncrt.model import quantities
from asyncrt.model.limits import DeviceRate, Limits

# What update can change; the words are docker's.
FLAGS = (
    Flag("memory-swap", "", "SIZE", "memory and swap together; -1: swap without limit"),
    Flag("memory-reservation", "", "SIZE", "what the kernel tries to leave it"),
    Flag("cpu-shares", "c", "N", "its weight, 1024 is normal"),
    Flag("cpu-period", "", "US", "microseconds of a period, with --cpu-quota"),
    Flag("cpu-quota", "", "US", "microseconds of CPU in each"),
    Flag("cpuset-mems", "", "LIST", "which memory nodes, as in 0-1"),
    Flag("blkio-weight", "", "N", "10 to 1000"),
    Flag("blkio-weight-device", "", "PATH:N", "of one block device"),
    Flag("device-read-bps", "", "PATH:SIZE", "bytes a second read from a block device"),
    Flag("device-write-bps", "", "PATH:SIZE", "bytes a second written to it"),
    Flag("device-read-iops", "", "PATH:N", "reads a second"),
    Flag("device-write-iops", "", "PATH:N", "writes a second"),
    Flag("cgroup-conf", "", "FILE=VALUE", "written to its cgroup as it is (v2)"),
)
# What is the start's alone.
START_FLAGS = (
    Flag("memory-swappiness", "", "N", "0 to 100 (cgroup v1)"),
    Flag("oom-kill-disable", "", "", "let it wait for memory instead (cgroup v1)"),
    Flag("oom-score-adj", "", "N", "-1000 to 1000: whom the kernel kills first"),
    Flag("cgroup-parent", "", "PATH", "the cgroup that its own is made in"),
)
_CPU_LIST = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")


def limits(words: Words) -> Limits:
    """What was asked for; BadRequest at the first bad value. What the machine can give is the supervisor's to say."""
    found: dict[str, Any] = {}
    for name in ("memory-swap", "memory-reservation"):
        if words.given(name):
            found[_field(name)] = _size(name, words.one(name))
    for name in ("cpu-shares", "cpu-period", "cpu-quota", "blkio-weight", "memory-swappiness", "oom-score-adj"):
        if words.given(name):
            found[_field(name)] = _number(name, words.one(name))
    if words.given("cpuset-mems"):
        if not _CPU_LIST.fullmatch(words.one("cpuset-mems")):
            raise BadRequest("read", "--cpuset-mems", f'"{words.one("cpuset-mems")}" does not fit', "write it as 0-1")
        found["cpuset_mems"] = words.one("cpuset-mems")
    for name in ("blkio-weight-device", "device-read-iops", "device-write-iops"):
        found[_field(name)] = tuple(_rate(name, text, in_bytes=False) for text in words.all(name))
    for name in ("device-read-bps", "device-write-bps"):
        found[_field(name)] = tuple(_rate(name, text, in_bytes=True) for text in words.all(name))
    if words.on("oom-kill-disable"):
        found["oom_kill_disable"] = True
    return Limits(**found, unified=tuple(words.all("cgroup-conf")))


def _field(flag: str) -> str:
    return flag.replace("-", "_")


def _size(flag: str, text: str) -> int:
    if text == "-1" and flag == "memory-swap":
        return -1
    return quantities.memory(text, f"--{flag}")


def _number(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest("read", f"--{flag}", f'"{text}" is no number') from None


def _rate(flag: str, text: str, in_bytes: bool) -> DeviceRate:
    path, colon, number = text.rpartition(":")
    shape = "write it as /dev/sda:1mb" if in_bytes else "write it as /dev/sda:100"
    if not colon or not path.startswith("/"):
        raise BadRequest("read", f"--{flag}", f'"{text}" has another shape', shape)
    try:
        amount = quantities.size(number) if in_bytes else int(number)
    except ValueError:
        raise BadRequest("read", f"--{flag}", f'"{number}" is no rate', shape) from None
    return DeviceRate(path, amount)
