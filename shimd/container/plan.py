"""config.json compiled to a plan: ordered lists of operations, done by whom their name says.

    outside   by the shim, before the container is born; undone in reverse when it ended
    birth     by init, still in the machine's root: cgroups, namespaces, /proc writes
    rooting   by init: the root file system, mounts, devices, masks, pivot_root
    process   by init, inside: limits, user, capabilities, exec

A plan is data and shared by all containers of a template; what differs is in Making.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shimd.container import (
    borrowed,
    cgroups,
    console,
    devices,
    hooks,
    identity,
    labels,
    mounting,
    namespaces,
    netdevices,
    resctrl,
    root,
    rootfs,
    scheduling,
    seccomp,
    waiting,
)
from shimd.container import mounts as mount_steps
from shimd.container.making import Operation, OutsideOperation
from shimd.container.namespaces import FLAGS
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import identity as kernel_identity
from shimd.linux import processes
from shimd.linux.cgroups import Hierarchy
from shimd.spec.config import Config
from shimd.spec.linux import sysctl_file
from shimd.spec.linux_rules import namespace_of_sysctl
from shimd.spec.lists import outside_id
from shimd.wire.values import LogWish


class Plan(NamedTuple):
    """What will be done, in order."""

    outside: tuple[OutsideOperation, ...]
    clone_flags: int
    uid_map: str
    gid_map: str
    birth: tuple[Operation, ...]
    rooting: tuple[Operation, ...]
    process: tuple[Operation, ...]
    possible: int
    """Capabilities that the machine can grant, as bits."""
    hierarchies: tuple[Hierarchy, ...]
    own_pids: bool
    """Does init's end end every process of the container?"""
    kinds: int
    """CLONE_NEW* of the namespaces that an exec enters itself."""
    child_kinds: int
    """CLONE_NEW* of those that it has to be born into (setns(2): pid and time count for children)."""
    stdin: bool
    """Does the container's stdin stay open for an attach? (Else it is the null device.)"""
    chroot: bool = False
    """Is its root a directory in mounts of others? (Else the root of its own mount namespace.)"""
    common: tuple[Operation, ...] = ()
    """Steps of every process of the container, execs too."""
    filter: seccomp.Filter = seccomp.NO_FILTER
    terminal: bool = False
    """Has its program a terminal, whose master somebody takes?"""
    log: LogWish = LogWish()
    """What the shim does with its output."""
    annotations: tuple[tuple[str, str], ...] = ()
    """For the state that hooks get."""

    def describe(self) -> list[str]:
        """One line per step, for `plan` and the tests."""
        lines = [f"outside: {' '.join(step.describe())}" for step in self.outside]
        lines.append(f"outside: clone3 flags {self.clone_flags:#x}")
        for stage, steps in (("birth", self.birth), ("rooting", self.rooting), ("process", self.process)):
            lines += [f"{stage}: {' '.join(step.describe())}" for step in steps]
        return lines


def compile_plan(
    config: Config, hierarchies: list[Hierarchy], stdin: bool, standalone: bool = False, asks: bool = False
) -> Plan:
    """The plan of a validated config. RuntimeTrouble for what this engine does not do yet.

    `standalone`: its cgroup has no parent that the engine prepared (cgroups.py says what differs). `asks`: init asks
    for the runtime's hooks though the config names none.
    """
    if config.process is None or not config.process.args:
        raise RuntimeTrouble(Trouble("plan", "$.process.args", "there is no command"))
    outside, flags, namespace_steps = _namespaces(config)
    cgroup_steps = cgroups.compile_cgroups(config.linux.resources, hierarchies, standalone, cgroups.owner_of(config))
    made = (cgroups.CreateCgroup, cgroups.TakeCgroup)
    used = tuple(step.hierarchy for step in cgroup_steps if isinstance(step, made))
    common = scheduling.common_steps(config.linux)
    filter = seccomp.compile_filter(config.linux.seccomp, config.oci_version, config.annotations)
    groups = resctrl.compile_groups(config.linux.intel_rdt)
    birth: list[Operation] = [cgroups.EnterCgroups()] if used and used[0].version == 1 else []
    birth += [*groups.enter, *filter.early]
    # In a user namespace procfs lets only the machine's root set the score of a process that is not dumpable.
    birth += identity.early_steps(config.process)
    birth += namespace_steps
    possible = 0 if config.linux.namespace("user") else kernel_identity.bounding()
    new_user = bool(flags & processes.CLONE_NEWUSER)
    late = identity.late_steps(config.process, possible, common)
    kinds = sum({FLAGS[entry.type] for entry in config.linux.namespaces})
    return Plan(
        outside=(
            *rootfs.outside(config),
            *mounting.outside(config),
            *_held_nodes(config),
            *outside,
            *cgroup_steps,
            *groups.outside,
        ),
        clone_flags=flags,
        uid_map=mounting.id_map(config.linux.uid_mappings, "uid_map") if new_user else "",
        gid_map=mounting.id_map(config.linux.gid_mappings, "gid_map") if new_user else "",
        birth=tuple(birth),
        rooting=tuple(_hooked(_rooting(config, used), config, asks)),
        process=(
            identity.JoinKeyring(),
            *_with_start_hooks(filter.placed(late, config.process.no_new_privileges), config),
        ),
        possible=possible,
        hierarchies=used,
        own_pids=bool(flags & processes.CLONE_NEWPID),
        kinds=kinds & ~namespaces.FOR_CHILDREN,
        child_kinds=kinds & namespaces.FOR_CHILDREN,
        stdin=stdin,
        chroot=rootfs.is_borrowed(config),
        common=common,
        filter=filter,
        terminal=config.process.terminal,
        annotations=tuple(config.annotations.items()),
    )


def _hooked(steps: list[Operation], config: Config, asks: bool) -> list[Operation]:
    """With the hooks that come before pivot_root. (A container that stands alone gets its own: bundle.py.)"""
    wanted = hooks.before_pivot(config.hooks, asks)
    place = next(at for at, step in enumerate(steps) if isinstance(step, root.PivotRoot | borrowed.ChangeRoot))
    return [*steps[:place], *wanted, *steps[place:]]


def _with_start_hooks(steps: Sequence[Operation], config: Config) -> list[Operation]:
    *before, last = steps
    if config.hooks.start_container:
        assert isinstance(last, identity.Exec | seccomp.ConfinedExec)
        last = waiting.HookedExec(config.hooks.start_container, last)
    return [*before, last]


def _namespaces(config: Config) -> tuple[list[OutsideOperation], int, list[Operation]]:
    """(steps of the shim, clone flags, steps of init) for the namespaces that are new or joined by path."""
    outside: list[OutsideOperation] = []
    flags = 0
    new = {entry.type for entry in config.linux.namespaces if not entry.path}
    joined = [entry for entry in config.linux.namespaces if entry.path]
    changed = _changed_namespaces(config)
    outside += [namespaces.OpenNamespace(entry.type, entry.path, entry.type in changed) for entry in joined]
    if "time" in new:
        offsets = tuple((clock, offset.secs, offset.nanosecs) for clock, offset in config.linux.time_offsets.items())
        outside.append(namespaces.NewTimeNamespace(offsets))
    for kind in new - {"cgroup", "time"}:
        flags |= FLAGS[kind]
    birth: list[Operation] = []
    user = config.linux.namespace("user") is not None
    if not user and any(entry.type not in ("pid", "time", "mount") for entry in joined):
        birth.append(namespaces.JoinNamespaces())
    if user:
        birth.append(namespaces.BecomeRoot())
    if "cgroup" in new:
        birth.append(namespaces.UnshareCgroup())
    if "network" in new:
        birth.append(namespaces.LoopbackUp())
    if config.linux.net_devices:
        wishes = netdevices.wishes(config.linux)
        outside.append(netdevices.OfferDevices(wishes))
        birth.append(netdevices.TakeDevices(wishes))
    if "uts" in new:
        birth.append(namespaces.SetHostname(config.hostname))
    elif config.hostname:
        birth.append(namespaces.RenameJoined(config.hostname))
    if config.domainname:
        birth.append(namespaces.SetDomainname(config.domainname))
    birth += [namespaces.WriteSysctl(key, value) for key, value in config.linux.sysctl.items()]
    return outside, flags, birth


def _changed_namespaces(config: Config) -> set[str]:
    """Namespaces in which the config sets something."""
    changed = {namespace_of_sysctl(sysctl_file(key)) for key in config.linux.sysctl}
    return changed | ({"uts"} if config.hostname or config.domainname else set())


def _nodes(config: Config) -> Iterator[tuple[str, str, int, int, int, int, int]]:
    """The devices to make: path, kind, major, minor, mode, uid and gid."""
    bound = mounting.brings_devices(config)
    for device in config.linux.devices:
        if device.path == "/dev/ptmx" or (bound and device.path.startswith("/dev/")):
            continue  # ptmx is a default device, and a symlink into the container's own devpts
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        yield device.path, device.type, device.major or 0, device.minor or 0, mode, device.uid or 0, device.gid or 0


def _held_nodes(config: Config) -> list[OutsideOperation]:
    """For a new user namespace, whose ids are known here; what is not in its map stays the machine's root's."""
    user = config.linux.namespace("user")
    if user is None or user.path:
        return []
    held: list[OutsideOperation] = []
    for path, kind, major, minor, mode, uid, gid in _nodes(config):
        if kind == "p":
            continue  # everybody may make one
        owner = outside_id(config.linux.uid_mappings, uid), outside_id(config.linux.gid_mappings, gid)
        held.append(devices.HoldNode(path, kind, major, minor, mode, *owner))
    return held


def _rooting(config: Config, hierarchies: tuple[Hierarchy, ...]) -> list[Operation]:
    strangers = config.linux.namespace("user") is not None
    steps: list[Operation] = rootfs.first(config)
    if label := config.linux.mount_label:
        steps.append(labels.CheckMountLabel(label))
        config = config._replace(mounts=tuple(labels.labelled(mount, label) for mount in config.mounts))
    steps += mounting.inside(config, hierarchies)
    bound = mounting.brings_devices(config)
    steps.append(devices.DefaultDevices(bound))
    if config.process is not None and config.process.terminal:
        # /dev/console is no mount where the root is borrowed: it would stay, in somebody else's table.
        bind = not rootfs.is_borrowed(config)
        steps.append(console.TakeConsole(config.process.user.uid, config.process.console_size, bind))
    steps += [devices.MakeDevice(*node) for node in _nodes(config)]
    if config.process is not None and config.process.cwd != "/":
        steps.append(mount_steps.MakeDirectory(config.process.cwd))
    steps += [mount_steps.ReadonlyPath(path) for path in config.linux.readonly_paths]
    steps += [mount_steps.MaskPath(path, own=strangers) for path in config.linux.masked_paths]
    steps += mounting.last(config)
    steps += rootfs.last(config)
    return steps
