"""update: change a container's limits, by the spec's resources object or by flags."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from shimd.command import status
from shimd.command.context import Context
from shimd.command.flags import number, text
from shimd.container import lifecycle, updating
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux.cgroups import Hierarchy
from shimd.spec import text as json
from shimd.spec.errors import SpecError
from shimd.spec.resources import Resources
from shimd.spec.validate import load_resources

# flag: where it stands in the resources object
NUMBERS = {
    "blkio-weight": ("blockIO", "weight"),
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpu-idle": ("cpu", "idle"),
    "pids-limit": ("pids", "limit"),
}
WORDS = {"cpuset-cpus": ("cpu", "cpus"), "cpuset-mems": ("cpu", "mems")}
SIZES = {
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
}
SUFFIXES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def main(context: Context) -> int:
    shelf = context.shelf()
    shelf.lock()
    record = shelf.read()
    if status.of(shelf, record) == lifecycle.STOPPED:
        raise RuntimeTrouble(Trouble("update", record.id, "container not running", errno=3))
    path = text(context.values, "resources")
    resources = _load(_read(path) if path else from_flags(context.values))
    trees = [Hierarchy(version, mount, tuple(names)) for version, mount, names in record.hierarchies]
    updating.update(resources, trees, record.cgroup)
    return 0


def _load(document: object) -> Resources:
    try:
        return load_resources(document)
    except SpecError as error:
        raise RuntimeTrouble(Trouble("read", "resources", str(error))) from None


def _read(path: str) -> object:
    try:
        if path == "-":
            return json.read(sys.stdin.read())
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return json.read(file.read())
    except OSError as error:
        raise RuntimeTrouble(from_oserror("read", path, error)) from None
    except json.BadText as error:
        raise RuntimeTrouble(Trouble("read", path, str(error))) from None


def from_flags(values: Mapping[str, object]) -> dict[str, Any]:
    """The resources object that the flags say; 0, runc's word for unchanged, is left out where it means nothing."""
    document: dict[str, Any] = {}
    for flag, (section, key) in NUMBERS.items():
        value = number(values, flag)
        if value is not None and (value or flag == "cpu-idle"):
            document.setdefault(section, {})[key] = value
    for flag, (section, key) in WORDS.items():
        if word := text(values, flag):
            document.setdefault(section, {})[key] = word
    for flag, (section, key) in SIZES.items():
        if word := text(values, flag):
            document.setdefault(section, {})[key] = size(flag, word)
    return document


def size(flag: str, word: str) -> int:
    """Bytes, with a suffix of SUFFIXES in either case; -1 lifts the limit."""
    if word == "-1":
        return -1
    lower = word.lower()
    digits = lower.rstrip("bkmgt")
    suffix = lower[len(digits) :]
    suffix = suffix[:-1] if len(suffix) == 2 and suffix.endswith("b") else suffix
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and suffix in SUFFIXES):
        raise RuntimeTrouble(Trouble("use", f"--{flag} {word!a:.40}", "it is no size", "as in 64m"))
    return int(digits) * SUFFIXES[suffix]
