"""A document to a Config that can be compiled: decode, check, tidy.

    decode   types, required properties, ranges           SpecError names the JSON path
    check    rules across properties: the table CONFIG_RULES below, in order; first fatal finding wins
    tidy     the one form where the spec allows several   relative destinations, unknown capabilities

``load`` does the three; ``load_process`` and ``load_resources`` do it for exec's and update's documents.
"""

from collections.abc import Callable, Iterable, Iterator

from shimd.spec import names
from shimd.spec.config import Capabilities, Config, Mount, Process, Resources
from shimd.spec.decode import decode, key_step
from shimd.spec.errors import Finding, SpecError
from shimd.spec.linux_rules import LINUX_RULES, TYPE_BITS, ConfigRule
from shimd.spec.lists import bad_mappings
from shimd.spec.process_rules import CAPABILITY_SETS, PROCESS_RULES
from shimd.spec.resource_rules import RESOURCE_RULES
from shimd.spec.seccomp_rules import SECCOMP_RULES

Tell = Callable[[Finding], None]

NEWEST_MINOR = 3


def version_is_supported(config: Config) -> Iterator[Finding]:
    """config.md, "Specification version": a semantic version; a newer 1.x only adds properties."""
    core = config.oci_version.partition("+")[0].partition("-")[0].split(".")
    if len(core) != 3 or not all(_is_version_number(part) for part in core):
        problem = f"{config.oci_version!a:.40} is no semantic version"
        yield Finding("$.ociVersion", problem, "as in 1.2.0")
    elif core[0] != "1":
        yield Finding("$.ociVersion", f"version {config.oci_version:.40} is not supported", "1.x is")
    elif int(core[1]) > NEWEST_MINOR:
        problem = f"version {config.oci_version:.40} is newer than 1.{NEWEST_MINOR}: what it added is ignored"
        yield Finding("$.ociVersion", problem, fatal=False)


def _is_version_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and (text == "0" or text[0] != "0")


def root_has_a_path(config: Config) -> Iterator[Finding]:
    """config.md, "Root": a path, absolute or relative to the bundle."""
    if not config.root.path:
        yield Finding("$.root.path", "is empty")


def process_is_sound(config: Config) -> Iterator[Finding]:
    """config.md, "Process": the rules in process_rules."""
    if config.process is not None:
        for rule in PROCESS_RULES:
            yield from rule(config.process, "$.process")


def mounts_have_places(config: Config) -> Iterator[Finding]:
    """config.md, "Mounts": a destination (a relative one counts from /), for a bind mount a source."""
    for place, mount in enumerate(config.mounts):
        here = f"$.mounts[{place}]"
        if not mount.destination:
            yield Finding(f"{here}.destination", "is empty")
        elif not mount.destination.startswith("/"):
            problem = f"{mount.destination!a:.80} is relative, taken as below /"
            yield Finding(f"{here}.destination", problem, fatal=False)
        if not mount.source and ("bind" in mount.options or "rbind" in mount.options):
            yield Finding(f"{here}.source", "is required for a bind mount")


def mount_mappings_are_pairs(config: Config) -> Iterator[Finding]:
    """config.md, "Linux mount options": uidMappings with gidMappings; idmap needs them or a user ns."""
    for place, mount in enumerate(config.mounts):
        here = f"$.mounts[{place}]"
        if mount.uid_mappings and not mount.gid_mappings:
            yield Finding(f"{here}.gidMappings", "is required beside uidMappings")
        if mount.gid_mappings and not mount.uid_mappings:
            yield Finding(f"{here}.uidMappings", "is required beside gidMappings")
        yield from bad_mappings(mount.uid_mappings, f"{here}.uidMappings")
        yield from bad_mappings(mount.gid_mappings, f"{here}.gidMappings")
        if mount.uid_mappings or config.linux.namespace("user") is not None:
            continue
        for number, option in enumerate(mount.options):
            if option in ("idmap", "ridmap"):
                problem = f"{option} needs uidMappings and gidMappings, or a user namespace"
                yield Finding(f"{here}.options[{number}]", problem)


def hooks_are_absolute(config: Config) -> Iterator[Finding]:
    """config.md, "POSIX-platform Hooks": absolute paths, timeouts above zero."""
    hooks = config.hooks
    moments = {
        "prestart": hooks.prestart,
        "createRuntime": hooks.create_runtime,
        "createContainer": hooks.create_container,
        "startContainer": hooks.start_container,
        "poststart": hooks.poststart,
        "poststop": hooks.poststop,
    }
    for moment, entries in moments.items():
        for place, hook in enumerate(entries):
            here = f"$.hooks.{moment}[{place}]"
            if not hook.path.startswith("/"):
                yield Finding(f"{here}.path", f"expected an absolute path, got {hook.path!a:.80}")
            if hook.timeout is not None and hook.timeout < 1:
                yield Finding(f"{here}.timeout", f"expected seconds above zero, got {hook.timeout}")


def annotations_have_keys(config: Config) -> Iterator[Finding]:
    """config.md, "Annotations": no empty key."""
    if "" in config.annotations:
        yield Finding(f"$.annotations{key_step('')}", "is an empty key")


def resources_are_sound(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Control groups": the rules in resource_rules."""
    for rule in RESOURCE_RULES:
        yield from rule(config.linux.resources, "$.linux.resources")


def seccomp_is_sound(config: Config) -> Iterator[Finding]:
    """config-linux.md, "Seccomp": the rules in seccomp_rules."""
    if config.linux.seccomp is not None:
        for rule in SECCOMP_RULES:
            yield from rule(config.linux.seccomp, "$.linux.seccomp")


CONFIG_RULES: tuple[ConfigRule, ...] = (
    version_is_supported,
    root_has_a_path,
    process_is_sound,
    *LINUX_RULES,
    mounts_have_places,
    mount_mappings_are_pairs,
    hooks_are_absolute,
    annotations_have_keys,
    resources_are_sound,
    seccomp_is_sound,
)


def load(document: object, tell: Tell | None = None) -> Config:
    """A config.json, as json.loads gives it, decoded, checked and tidied.

    Raises SpecError at the first thing that cannot be; ``tell`` gets what the user should know though it can.
    """
    config = decode(Config, document)
    check(config, tell)
    return tidy(config)


def load_process(document: object, tell: Tell | None = None) -> Process:
    """The process document of an exec, as ``load`` does it; paths in errors start at its own root."""
    process = decode(Process, document)
    for rule in PROCESS_RULES:
        _judge(rule(process, "$"), tell)
    return _tidy_process(process)


def load_resources(document: object) -> Resources:
    """The resources document of an update, decoded and checked."""
    resources = decode(Resources, document)
    for rule in RESOURCE_RULES:
        _judge(rule(resources, "$"), None)
    return resources


def check(config: Config, tell: Tell | None = None) -> None:
    """The rules alone, for a Config built in Python. Raises SpecError."""
    for rule in CONFIG_RULES:
        _judge(rule(config), tell)


def tidy(config: Config) -> Config:
    """The same container in the one form that ``container`` reads.

    Destinations are absolute, capabilities known, device modes without their type bits.
    """
    linux = config.linux
    if any(device.file_mode and device.file_mode & TYPE_BITS for device in linux.devices):
        devices = tuple(
            device._replace(file_mode=device.file_mode & ~TYPE_BITS) if device.file_mode else device
            for device in linux.devices
        )
        config = config._replace(linux=linux._replace(devices=devices))
    if not all(mount.destination.startswith("/") for mount in config.mounts):
        config = config._replace(mounts=tuple(_tidy_mount(mount) for mount in config.mounts))
    if config.process is not None:
        config = config._replace(process=_tidy_process(config.process))
    return config


def _tidy_mount(mount: Mount) -> Mount:
    if mount.destination.startswith("/"):
        return mount
    return mount._replace(destination="/" + mount.destination)


def _tidy_process(process: Process) -> Process:
    held = process.capabilities
    if held is None or all(names.CAPABILITIES.issuperset(entries) for entries in held):
        return process
    kept = {
        name: tuple(entry for entry in getattr(held, name) if entry in names.CAPABILITIES) for name in CAPABILITY_SETS
    }
    return process._replace(capabilities=Capabilities(**kept))


def _judge(findings: Iterable[Finding], tell: Tell | None) -> None:
    for finding in findings:
        if finding.fatal:
            raise SpecError(finding.path, finding.problem, finding.hint)
        if tell is not None:
            tell(finding)
