"""Operations on cgroups: made and limited by the shim, entered by init. Which limit is which file: limits.py.

A container of the engine enters the hierarchies that give it isolation, accounting or protection (BASE), and others
when a limit asks for them; each one costs a mkdir, an entry and a rmdir per container. Its parent exists, hands its
controllers on, and has device rules (asyncrt/supervisor/cgroups.py), so that it needs none of its own.

A container that stands alone (a runtime's command) takes a path out of its config. It enters every hierarchy, so that
a later update finds its cgroup in each of them, makes the cgroups above (they stay: somebody else may use them by
then), and always has device rules.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from shimd.container.limits import RESOURCES, Setting, settings
from shimd.container.making import Making, OutsideOperation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import bpf, cgroups, device_rules
from shimd.linux.cgroups import Hierarchy
from shimd.spec.config import Config
from shimd.spec.linux import systemd_path
from shimd.spec.lists import outside_id
from shimd.spec.resources import DeviceRule, Resources

# cpu: fair shares between containers; cpuacct and memory: the exit record; devices: its rules are inherited from the
# parent; freezer: pause; pids: fork bombs are counted. cpuset and blkio do nothing without a limit.
BASE = frozenset(("cpu", "cpuacct", "memory", "devices", "freezer", "pids"))


def place(cgroups_path: str, id: str) -> str:
    """The cgroup of a config's `cgroupsPath`, below each hierarchy's mount point; without one it is /ID.

    A relative path begins at the mount point too: the same path is the same place, whoever asks (config-linux.md,
    "Cgroups Path"). RuntimeTrouble for systemd's `slice:prefix:name`: it names a unit, not a directory.
    """
    if systemd_path(cgroups_path) is not None:
        problem = f'"{cgroups_path}" names a unit of systemd, and there is no systemd driver'
        hint = "give a path such as /parent/name, or tell the engine to use the cgroupfs driver"
        raise RuntimeTrouble(Trouble("plan", "$.linux.cgroupsPath", problem, hint))
    words = [word for word in cgroups_path.split("/") if word not in ("", ".")]
    return "/" + "/".join(words or [id])


class CreateCgroup(NamedTuple):
    """Make the container's cgroup in one hierarchy and hold the fd by which init enters it."""

    hierarchy: Hierarchy

    def describe(self) -> tuple[str, str]:
        return "create cgroup", f"in {self.hierarchy.mount}"

    def execute(self, making: Making) -> None:
        directory = self.hierarchy.mount + making.cgroup
        os.mkdir(directory, 0o755)
        try:
            _hold(self.hierarchy, directory, making)
        except OSError:
            cgroups.remove(directory)
            raise

    def undo(self, making: Making) -> None:
        cgroups.remove(self.hierarchy.mount + making.cgroup)


class TakeCgroup(NamedTuple):
    """As CreateCgroup, at a path that somebody else chose: cgroups above are made, an empty one of that name is taken.

    One in which something lives is shared, and who lives there is noted: the command warns of it, and removes it only
    when nobody is left (docs/decisions/0013). A frozen one is refused: init would not get on. On v2 the cgroups above
    hand on what controllers they can; one with processes of its own cannot (the no-internal-process rule), and a limit
    that needs its controllers then fails by its name.
    """

    hierarchy: Hierarchy

    def describe(self) -> tuple[str, str]:
        return "create cgroup", f"in {self.hierarchy.mount}"

    def execute(self, making: Making) -> None:
        directory = self.hierarchy.mount + making.cgroup
        above = os.path.dirname(making.cgroup)
        cgroups.make_parent(self.hierarchy, above, must_delegate=False)
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            if cgroups.is_frozen(self.hierarchy, directory):  # in the words that runc's callers look for
                raise OSError(errno.EBUSY, "container's cgroup unexpectedly frozen") from None
            making.neighbours += cgroups.all_processes(directory)
        try:
            _hold(self.hierarchy, directory, making)
        except OSError:
            self.undo(making)
            raise

    def undo(self, making: Making) -> None:
        directory = self.hierarchy.mount + making.cgroup
        if making.neighbours:
            cgroups.leave(directory)
        else:
            cgroups.remove(directory)


def _hold(hierarchy: Hierarchy, directory: str, making: Making) -> None:
    if hierarchy.version == 2:
        making.cgroup_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return
    if "cpuset" in hierarchy.controllers:
        cgroups.inherit_cpuset(os.path.dirname(directory), directory)
    making.task_fds.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))


class WriteCgroup(NamedTuple):
    """Write one limit."""

    mount: str
    file: str
    value: str

    def describe(self) -> tuple[str, str]:
        return "set limit", f"{self.file}={self.value}"

    def execute(self, making: Making) -> None:
        try:
            cgroups.write(self.mount + making.cgroup, self.file, self.value)
        except FileNotFoundError:
            raise _no_such_file(self.file) from None

    def undo(self, making: Making) -> None:
        """The limit goes with its cgroup."""


class WriteKept(NamedTuple):
    """Write one limit of those that some kernels take and forget, and see that it is kept."""

    mount: str
    file: str
    value: str

    def describe(self) -> tuple[str, str]:
        return "set limit", f"{self.file}={self.value}"

    def execute(self, making: Making) -> None:
        directory = self.mount + making.cgroup
        WriteCgroup(self.mount, self.file, self.value).execute(making)
        if cgroups.read_number(directory, self.file) > int(self.value):  # it is rounded down to pages
            raise OSError(errno.EOPNOTSUPP, "this kernel takes the number and limits nothing")

    def undo(self, making: Making) -> None:
        """The limit goes with its cgroup."""


class WriteFirst(NamedTuple):
    """Write one limit to the first of its files that the kernel has: (file, value) each."""

    mount: str
    choices: tuple[tuple[str, str], ...]
    optional: bool
    """Is it fine if there is none?"""

    def describe(self) -> tuple[str, str]:
        return "set limit", " or ".join(f"{file}={value}" for file, value in self.choices)

    def execute(self, making: Making) -> None:
        directory = self.mount + making.cgroup
        for file, value in self.choices:
            try:
                cgroups.write(directory, file, value)
                return
            except FileNotFoundError:
                continue
        if not self.optional:
            raise _no_such_file(self.choices[0][0])

    def undo(self, making: Making) -> None:
        """The limit goes with its cgroup."""


def _no_such_file(file: str) -> OSError:
    controller = file.partition(".")[0]
    reason = "this kernel lacks it, or the cgroup above does not hand on the controller (processes live in it?)"
    return OSError(errno.ENOENT, f"the {controller} controller has no such file here: {reason}")


class MissingController(NamedTuple):
    """A limit that this kernel cannot keep: said at start, never skipped."""

    limit: str
    controller: str

    def describe(self) -> tuple[str, str]:
        return "set limit", f"{self.limit} (this machine mounts no {self.controller} controller)"

    def execute(self, making: Making) -> None:
        raise OSError(95, os.strerror(95), self.controller)

    def undo(self, making: Making) -> None:
        """Nothing was done."""


class LimitDevices(NamedTuple):
    """v2: have this program decide about device nodes (shimd/linux/bpf.py)."""

    mount: str
    program: bytes
    rules: int

    def describe(self) -> tuple[str, str]:
        return "limit devices", f"by {self.rules} rules in a BPF program"

    def execute(self, making: Making) -> None:
        directory = os.open(self.mount + making.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bpf.install(directory, self.program)
        finally:
            os.close(directory)

    def undo(self, making: Making) -> None:
        """The program goes with its cgroup."""


class HandOverCgroup(NamedTuple):
    """v2: give the cgroup to the container's user, who may then make cgroups below it (cgroups(7), "Delegation")."""

    mount: str
    owner: int

    def describe(self) -> tuple[str, str]:
        return "give cgroup", f"to user {self.owner}"

    def execute(self, making: Making) -> None:
        directory = self.mount + making.cgroup
        os.chown(directory, self.owner, -1)
        for name in cgroups.delegated_files():
            try:
                os.chown(f"{directory}/{name}", self.owner, -1)
            except FileNotFoundError:
                continue  # its controller is not here

    def undo(self, making: Making) -> None:
        """It goes as it is."""


def owner_of(config: Config) -> int:
    """The machine's uid whose the container's cgroup becomes; -1: nobody's but root's.

    config-linux.md, "Cgroup ownership": if it has a cgroup namespace of its own and its cgroup file system is
    writable, the uid that process.user.uid stands for.
    """
    new = any(entry.type == "cgroup" and not entry.path for entry in config.linux.namespaces)
    writable = any(mount.type in ("cgroup", "cgroup2") and "ro" not in mount.options for mount in config.mounts)
    if not new or not writable or config.process is None:
        return -1
    uid = config.process.user.uid
    if config.linux.namespace("user") is None:
        return uid or -1  # root's it is already
    return outside_id(config.linux.uid_mappings, uid) if config.linux.uid_mappings else -1


class EnterCgroups(NamedTuple):
    """init, v1: enter each cgroup (v2: it was born inside)."""

    def describe(self) -> tuple[str, str]:
        return "enter", "cgroups"

    def execute(self, making: Making) -> None:
        for fd in making.task_fds:
            os.write(fd, b"0")


def compile_cgroups(
    resources: Resources, trees: list[Hierarchy], standalone: bool = False, owner: int = -1
) -> list[OutsideOperation]:
    """The outside steps: a cgroup per hierarchy that is needed, its limits, its device rules, on v2 its owner."""
    version = trees[0].version if trees else 1
    wanted = settings(resources, version)
    rules = rules_of(resources, standalone)
    asked = {setting.controller for setting in wanted} | ({"devices"} if rules else set())
    used = [tree for tree in trees if standalone or tree.version == 2 or (BASE | asked) & set(tree.controllers)]
    steps: list[OutsideOperation] = [TakeCgroup(tree) if standalone else CreateCgroup(tree) for tree in used]
    steps += limit_steps(wanted, used)
    steps += device_steps(rules, used)
    if version == 2 and owner >= 0:
        steps.append(HandOverCgroup(used[0].mount, owner))
    return steps


def limit_steps(wanted: list[Setting], trees: list[Hierarchy]) -> list[OutsideOperation]:
    """The writes; a controller that is not there becomes the step that says so."""
    mount_of = {controller: tree.mount for tree in trees for controller in tree.controllers}
    if trees and trees[0].version == 2:
        mount_of["cgroup"] = trees[0].mount  # its core files are no controller's
    steps: list[OutsideOperation] = []
    for setting in wanted:
        mount = mount_of.get(setting.controller)
        if mount is None:
            if not setting.optional:
                steps.append(MissingController(setting.name, setting.controller))
        elif setting.optional or len(setting.choices) > 1:
            steps.append(WriteFirst(mount, setting.choices, setting.optional))
        else:
            write = WriteCgroup if setting.kept else WriteKept
            steps.append(write(mount, *setting.choices[0]))
    return steps


def rules_of(resources: Resources, standalone: bool) -> list[device_rules.Rule]:
    """The device rules that a config asks for; none: the cgroup has its parent's.

    As runc has it, a list begins with nothing allowed, and what every container may open is allowed behind it
    (device_rules.DEFAULT), unless the list allows everything but some: it would take back what was denied. A
    container that stands alone has those also where nothing was asked for.
    """
    if not resources.devices and not standalone:
        return []
    rules = [_rule(rule) for rule in resources.devices]
    if device_rules.allows_by_default(rules):
        return rules
    return [*rules, *device_rules.DEFAULT]


def _rule(rule: DeviceRule) -> device_rules.Rule:
    kind = {"": "a", "u": "c"}.get(rule.type, rule.type)
    major, minor = (device_rules.ANY if number is None else number for number in (rule.major, rule.minor))
    wanted = rule.access or device_rules.EVERY_ACCESS
    access = "".join(letter for letter in device_rules.EVERY_ACCESS if letter in wanted)
    return device_rules.Rule(rule.allow, kind, major, minor, access)


def device_steps(rules: list[device_rules.Rule], trees: list[Hierarchy]) -> list[OutsideOperation]:
    """v1: writes to two files; v2: a program. RuntimeTrouble for a list that v1 cannot keep."""
    if not rules:
        return []
    if trees and trees[0].version == 2:
        return [LimitDevices(trees[0].mount, device_rules.program(rules), len(rules))]
    mounts = [tree.mount for tree in trees if "devices" in tree.controllers]
    if not mounts:
        return [MissingController("devices", "devices")]
    try:
        return [WriteCgroup(mounts[0], file, text) for file, text in device_rules.writes(rules)]
    except device_rules.Unrepresentable as error:
        hint = "give the rules that it shall have in the end"
        raise RuntimeTrouble(Trouble("plan", f"{RESOURCES}.devices", str(error), hint)) from None
