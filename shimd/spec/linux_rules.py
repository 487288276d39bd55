"""Rules about ``linux``, its resources and seccomp apart: namespaces and what needs one, devices, paths."""

from collections.abc import Callable, Iterator

from shimd.spec import names
from shimd.spec.config import Config
from shimd.spec.decode import key_step
from shimd.spec.errors import Finding
from shimd.spec.linux import sysctl_file
from shimd.spec.lists import bad_mappings, is_cpu_list

ConfigRule = Callable[[Config], Iterator[Finding]]

# stat(2) of a device gives its type beside the permissions, and engines copy both.
TYPE_BITS = 0o170000
MAX_MAJOR, MAX_MINOR = 2**12 - 1, 2**20 - 1  # linux/kdev_t.h


def namespaces_are_known(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Namespaces": eight types, each once; a path to join is absolute."""
    seen = set()
    for place, (kind, path) in enumerate(config.linux.namespaces):
        here = f"$.linux.namespaces[{place}]"
        if kind not in names.NAMESPACES:
            yield Finding(f"{here}.type", f"unknown type {kind!a:.40}", ", ".join(sorted(names.NAMESPACES)))
        if kind in seen:
            yield Finding(f"{here}.type", f"{kind} is listed twice")
        seen.add(kind)
        if path and not path.startswith("/"):
            yield Finding(f"{here}.path", f"expected an absolute path, got {path!a:.80}")


def names_have_a_uts_namespace(config: Config) -> Iterator[Finding]:
    """config.md, "Hostname" and "Domainname": set in the container's UTS namespace; uname(2) has 64 bytes."""
    for name, text in (("hostname", config.hostname), ("domainname", config.domainname)):
        if text and config.linux.namespace("uts") is None:
            yield Finding(f"$.{name}", "is given without a uts namespace", "it would rename the host")
        if len(text.encode("utf-8", "surrogatepass")) > 64:
            yield Finding(f"$.{name}", "is longer than 64 bytes")


def mappings_have_a_user_namespace(config: Config) -> Iterator[Finding]:
    """config-linux.md, "User namespace mappings": a new user namespace has both or, as crun has it, the machine's."""
    linux = config.linux
    user = linux.namespace("user")
    some = bool(linux.uid_mappings or linux.gid_mappings)
    for name, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        here = f"$.linux.{name}"
        if mappings and user is None:
            yield Finding(here, "is given without a user namespace")
        elif mappings and user is not None and user.path:
            # Engines repeat the mappings of a pod's namespace; they are its creator's to write.
            yield Finding(here, "is not applied to a user namespace that is joined", fatal=False)
        elif user is not None and not user.path and not mappings:
            problem = (
                "is required beside the other mappings" if some else "is empty: every id inside is the same outside"
            )
            yield Finding(here, problem, fatal=some)
        yield from bad_mappings(mappings, here)


def offsets_have_a_time_namespace(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Offset for Time Namespace": two clocks, set before anyone is in the namespace."""
    time = config.linux.namespace("time")
    offsets = config.linux.time_offsets
    if offsets and (time is None or time.path):
        yield Finding("$.linux.timeOffsets", "is given without a new time namespace")
    for clock, offset in offsets.items():
        here = f"$.linux.timeOffsets{key_step(clock)}"
        if clock not in names.CLOCKS:
            yield Finding(here, "is no clock of a time namespace", "monotonic and boottime are")
        if offset.nanosecs >= 10**9:
            yield Finding(f"{here}.nanosecs", f"expected less than a second, got {offset.nanosecs}")


def devices_can_be_made(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Devices": c, b, u with numbers, or p; an absolute path, used for one device."""
    at_path: dict[str, tuple[object, ...]] = {}
    for place, device in enumerate(config.linux.devices):
        here = f"$.linux.devices[{place}]"
        if device.type not in ("c", "b", "u", "p"):
            yield Finding(f"{here}.type", f"expected c, b, u or p, got {device.type!a:.40}")
        if not device.path.startswith("/"):
            yield Finding(f"{here}.path", f"expected an absolute path, got {device.path!a:.80}")
        numbers = (("major", device.major, MAX_MAJOR), ("minor", device.minor, MAX_MINOR))
        for name, number, highest in numbers if device.type != "p" else ():
            if number is None:
                yield Finding(f"{here}.{name}", f"is required for a device of type {device.type}")
            elif not 0 <= number <= highest:
                yield Finding(f"{here}.{name}", f"expected an integer from 0 to {highest}, got {number}")
        if device.file_mode is not None and device.file_mode & ~TYPE_BITS > 0o777:
            problem = f"expected permission bits, got {device.file_mode}"
            yield Finding(f"{here}.fileMode", problem, "decimal 438 is octal 0666")
        node = (device.type, device.major, device.minor)
        if at_path.setdefault(device.path, node) != node:
            yield Finding(f"{here}.path", f"{device.path!a:.80} is another device's path already")


def net_devices_have_a_namespace(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Network Devices": moved to a network namespace, under names the kernel takes."""
    devices = config.linux.net_devices
    if devices and config.linux.namespace("network") is None:
        yield Finding("$.linux.netDevices", "is given without a network namespace")
    taken = set()
    for outside, device in devices.items():
        here = f"$.linux.netDevices{key_step(outside)}"
        inside = device.name or outside
        if not _is_interface(outside):
            yield Finding(here, "is no name of a network interface", "at most 15 bytes, without / : and space")
        if device.name and not _is_interface(inside.replace("%d", "0", 1)):
            yield Finding(f"{here}.name", f"{inside!a:.40} is no name of a network interface")
        if inside in taken and "%d" not in inside:
            yield Finding(f"{here}.name", f"{inside!a:.80} is given to two interfaces")
        taken.add(inside)


def _is_interface(name: str) -> bool:
    # dev_valid_name() in net/core/dev.c; % begins a template.
    size = len(name.encode("utf-8", "surrogatepass"))
    return 0 < size < 16 and name not in (".", "..") and not any(c in "/:%" or c.isspace() for c in name)


def sysctls_are_namespaced(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Sysctl": only what has a value of its own in a namespace that the container has.

    Whether a namespace that is joined by path is the host's own is for ``container`` to find out.
    """
    for name in config.linux.sysctl:
        here = f"$.linux.sysctl{key_step(name)}"
        try:
            file = sysctl_file(name)
        except ValueError:
            yield Finding(here, "is no name of a kernel parameter", "as in net.ipv4.ip_forward")
            continue
        needed = namespace_of_sysctl(file)
        if not needed:
            yield Finding(here, "is the whole machine's, not a namespace's", "set it on the host")
        elif config.linux.namespace(needed) is None:
            yield Finding(here, f"needs a {needed} namespace", "it would change the host's")
        if file == "kernel/hostname":  # runc and crun refuse it too
            yield Finding(here, "has a property of its own", "use $.hostname")
        if file == "kernel/domainname" and config.domainname and config.domainname != config.linux.sysctl[name]:
            yield Finding(here, "is given together with another domainname", "leave one of the two")


def namespace_of_sysctl(file: str) -> str:
    """The type of namespace that has a value of its own of this file below /proc/sys; "" if it is the machine's."""
    if file.startswith("net/"):
        return "network"
    if file in names.IPC_SYSCTLS or file.startswith("fs/mqueue/"):
        return "ipc"
    if file in names.UTS_SYSCTLS:
        return "uts"
    if file.startswith("user/"):
        return "user"
    return ""


def hidden_paths_are_absolute(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Masked Paths" and "Readonly Paths": absolute; mounts, so not the host's to carry."""
    linux = config.linux
    for name, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        if paths and linux.namespace("mount") is None:
            yield Finding(f"$.linux.{name}", "is given without a mount namespace", "the host would lose them")
        for place, path in enumerate(paths):
            if not path.startswith("/"):
                yield Finding(f"$.linux.{name}[{place}]", f"expected an absolute path, got {path!a:.80}")


def propagation_is_known(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Rootfs Mount Propagation"."""
    mode = config.linux.rootfs_propagation
    if mode and mode not in names.PROPAGATIONS:
        hint = ", ".join(sorted(names.PROPAGATIONS))
        yield Finding("$.linux.rootfsPropagation", f"unknown propagation {mode!a:.40}", hint)


def cgroups_path_stays_inside(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Cgroups Path": below the mount point, whatever its notation."""
    if ".." in config.linux.cgroups_path.replace(":", "/").split("/"):
        yield Finding("$.linux.cgroupsPath", "leads upwards with '..'")


def personality_is_known(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Personality": two domains, no flags so far."""
    personality = config.linux.personality
    if personality is None:
        return
    if personality.domain not in names.PERSONALITIES:
        problem = f"unknown domain {personality.domain!a:.40}"
        yield Finding("$.linux.personality.domain", problem, "LINUX or LINUX32")
    if personality.flags:
        yield Finding("$.linux.personality.flags", "is not empty", "no flag is defined")


def memory_policy_is_known(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Memory policy": modes, flags, and nodes where set_mempolicy(2) wants some."""
    policy = config.linux.memory_policy
    if policy is None:
        return
    here = "$.linux.memoryPolicy"
    if policy.mode not in names.MEMORY_MODES:
        yield Finding(f"{here}.mode", f"unknown mode {policy.mode!a:.40}", "as in MPOL_BIND")
    for place, flag in enumerate(policy.flags):
        if flag not in names.MEMORY_FLAGS:
            yield Finding(f"{here}.flags[{place}]", f"unknown flag {flag!a:.40}")
    if policy.nodes and not is_cpu_list(policy.nodes):
        yield Finding(f"{here}.nodes", f"{policy.nodes!a:.60} is no list of nodes", "as in 0-3,7")
    if policy.nodes and policy.mode in names.MEMORY_MODES_WITHOUT_NODES:
        yield Finding(f"{here}.nodes", f"{policy.mode} takes no nodes")
    if not policy.nodes and policy.mode in names.MEMORY_MODES_WITH_NODES:
        yield Finding(f"{here}.nodes", f"is required by {policy.mode}")


def resctrl_lines_are_lines(config: Config) -> Iterator[Finding]:
    """config-linux.md, "IntelRdt": closID names one directory, schemata are single lines."""
    rdt = config.linux.intel_rdt
    if rdt is None:
        return
    here = "$.linux.intelRdt"
    if rdt.clos_id != "/" and ("/" in rdt.clos_id or rdt.clos_id in (".", "..")):
        yield Finding(f"{here}.closID", f"{rdt.clos_id!a:.60} is no name of a directory")
    if rdt.mem_bw_schema and not rdt.mem_bw_schema.startswith("MB:"):
        yield Finding(f"{here}.memBwSchema", "does not start with MB:")
    lines = {f"{here}.l3CacheSchema": rdt.l3_cache_schema, f"{here}.memBwSchema": rdt.mem_bw_schema}
    lines.update((f"{here}.schemata[{place}]", line) for place, line in enumerate(rdt.schemata))
    for path, line in lines.items():
        if "\n" in line:
            yield Finding(path, "holds more than one line")


LINUX_RULES: tuple[ConfigRule, ...] = (
    namespaces_are_known,
    names_have_a_uts_namespace,
    mappings_have_a_user_namespace,
    offsets_have_a_time_namespace,
    devices_can_be_made,
    net_devices_have_a_namespace,
    sysctls_are_namespaced,
    hidden_paths_are_absolute,
    propagation_is_known,
    cgroups_path_stays_inside,
    personality_is_known,
    memory_policy_is_known,
    resctrl_lines_are_lines,
)
