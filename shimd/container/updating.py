"""Changed limits for a container that runs.

Some limits depend on each other: v1 has no memory above memory and swap, a quota has room for its burst. In which order
they can be written depends on what is there and what comes, and on v1 it differs for raising and lowering. So nothing
is worked out: what the kernel refuses is tried again once the others are written, until all are or none gets on.

What was written before a write that failed for good is put back, and the error says what was not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import NoReturn

from shimd.container.cgroups import (
    MissingController,
    WriteCgroup,
    WriteFirst,
    WriteKept,
    device_steps,
    limit_steps,
    rules_of,
)
from shimd.container.limits import settings
from shimd.container.making import Anchors, Making, OutsideOperation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import cgroups
from shimd.linux.cgroups import Hierarchy
from shimd.spec.resources import Memory, Resources

_DEPENDS = (errno.EINVAL, errno.EBUSY)
"""What the kernel answers to a limit that does not go with another one."""
_USED = {1: "memory.usage_in_bytes", 2: "memory.current"}
_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}


def update(resources: Resources, hierarchies: Sequence[Hierarchy], cgroup: str) -> None:
    """Write the limits that `resources` asks for to the cgroup of that path, in each hierarchy that it is in.

    What is not asked for stays as it is; what counts as such: limits.py. v2's swap is reckoned with the memory limit
    that is there if none comes along. RuntimeTrouble: a limit that cannot be kept, or, with checkBeforeUpdate, one
    that is below what is used now; all is then as it was before.
    """
    trees = list(hierarchies)
    _refuse_what_is_exceeded(resources.memory, trees, cgroup)
    resources = _with_the_memory_limit(resources, trees, cgroup)
    steps = limit_steps(settings(resources, trees[0].version if trees else 1), trees)
    rules = device_steps(rules_of(resources, False), trees)
    _refuse_unkept([*steps, *rules], cgroup)
    making = Making("", Anchors("", "", ""), [], cgroup, "", [], {})
    before = _values(steps, cgroup)
    done: list[OutsideOperation] = []
    try:
        _settle(steps, making, done)
        for step in rules:  # these have an order
            _settle((step,), making, done)
    except _Refused as refused:
        left = _put_back([write for step, write in before if step in done], making)
        _fail(refused.step, refused.error, left)


class _Refused(Exception):
    def __init__(self, step: OutsideOperation, error: OSError) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error


def _settle(steps: Sequence[OutsideOperation], making: Making, done: list[OutsideOperation]) -> None:
    """Do steps in any order in which they can be done; _Refused with the first that cannot be."""
    pending = list(steps)
    while pending:
        refused: list[_Refused] = []
        for step in pending:
            try:
                step.execute(making)
                done.append(step)
            except OSError as error:
                refused.append(_Refused(step, error))
                if error.errno not in _DEPENDS:
                    raise refused[-1] from None
        if len(refused) == len(pending):
            raise refused[0]
        pending = [one.step for one in refused]


def _values(steps: Sequence[OutsideOperation], cgroup: str) -> list[tuple[OutsideOperation, OutsideOperation]]:
    """(step, the write that puts back what is there now) for each file of one value.

    A file with a line for each device is not put back: a rate that was not there cannot be told from one that was.
    """
    found: list[tuple[OutsideOperation, OutsideOperation]] = []
    for step in steps:
        if isinstance(step, WriteCgroup | WriteKept):
            files = [(step.mount, step.file)]
        elif isinstance(step, WriteFirst):
            files = [(step.mount, file) for file, _ in step.choices]
        else:
            continue
        for mount, file in files:
            try:
                words = cgroups.read(mount + cgroup, file).splitlines()
            except OSError:
                continue
            if len(words) == 1 and ":" not in words[0]:
                found.append((step, WriteCgroup(mount, file, words[0])))
            break
    return found


def _put_back(writes: Sequence[OutsideOperation], making: Making) -> list[str]:
    """What would not go back, by name."""
    pending = list(reversed(writes))
    while pending:
        try:
            _settle(pending, making, [])
            return []
        except _Refused as refused:
            pending.remove(refused.step)
            left = f"{' '.join(refused.step.describe())} ({refused.error.strerror})"
            return [left, *_put_back(pending, making)]
    return []


def _fail(step: OutsideOperation, error: OSError, left: list[str]) -> NoReturn:
    deed, subject = step.describe()
    cause = (error.strerror or str(error)).lower()
    if error.errno == errno.EBUSY:
        cause += ": more than that is used now"
    if left:
        cause += f"; not put back: {', '.join(left)}"
    raise RuntimeTrouble(Trouble(deed, subject, cause, errno=error.errno or 0)) from error


def _refuse_unkept(steps: Sequence[OutsideOperation], cgroup: str) -> None:
    """A controller that is not here, or that the container is not in.

    One of the engine's is only in the hierarchies that its first limits asked for (BASE in cgroups.py).
    """
    for step in steps:
        if isinstance(step, MissingController):
            _fail(step, OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)), [])
        mount = getattr(step, "mount", "")
        if mount and not os.path.isdir(mount + cgroup):
            cause = f"it has no cgroup in {mount}, as nothing was limited there when it was created"
            _fail(step, FileNotFoundError(errno.ENOENT, cause), [])


def _refuse_what_is_exceeded(memory: Memory, trees: list[Hierarchy], cgroup: str) -> None:
    """config-linux.md, "Memory", checkBeforeUpdate: the kernel would kill to get below the limit (v2), or refuse."""
    if not memory.check_before_update or not trees:
        return
    used = _memory_number(trees, cgroup, _USED)
    for name, limit in (("swap", memory.swap), ("limit", memory.limit)):
        if limit and 0 < limit <= used:
            path = f"$.linux.resources.memory.{name}"
            raise RuntimeTrouble(Trouble("update", path, f"{limit} is not above the {used} bytes that are used now"))


def _with_the_memory_limit(resources: Resources, trees: list[Hierarchy], cgroup: str) -> Resources:
    memory = resources.memory
    if not trees or trees[0].version == 1 or not memory.swap or memory.swap < 0 or memory.limit:
        return resources
    limit = _memory_number(trees, cgroup, _LIMIT)
    if 0 < memory.swap < limit:
        problem = f"{memory.swap} is below the memory limit {limit} that it has"
        raise RuntimeTrouble(Trouble("update", "$.linux.resources.memory.swap", problem))
    return resources if limit < 0 else resources._replace(memory=memory._replace(limit=limit))


def _memory_number(trees: list[Hierarchy], cgroup: str, names: dict[int, str]) -> int:
    mounts = [tree.mount for tree in trees if "memory" in tree.controllers]
    return cgroups.read_number(mounts[0] + cgroup, names[trees[0].version]) if mounts else -1
