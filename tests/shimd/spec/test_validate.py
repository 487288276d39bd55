"""The rules: each breaks one thing in a valid document and is told where."""

from collections.abc import Callable
from typing import Any

import pytest

from shimd.spec.config import OCI_VERSION, Config, Linux, Mount, Namespace, Process, Root
from shimd.spec.errors import Finding, SpecError
from shimd.spec.linux import SystemdPath, sysctl_file, systemd_path
from shimd.spec.validate import CONFIG_RULES, check, load, load_process, load_resources, tidy
from tests.shimd.spec.documents import full, usual


def refusal(document: Any) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(document)
    return caught.value


def put(document: Any, path: str, value: Any) -> Any:
    """Set what a path such as ``process/rlimits/0/soft`` names; a value of DROP removes it."""
    *parents, last = path.split("/")
    node = document
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node.setdefault(step, {})
    if value is DROP:
        del node[int(last) if isinstance(node, list) else last]
    elif isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value
    return document


DROP = object()
IDS = {"containerID": 0, "hostID": 1000, "size": 10}
NULL = {"type": "c", "path": "/dev/null", "major": 1, "minor": 3}
SECCOMP = {"defaultAction": "SCMP_ACT_ALLOW"}

# What is put where into the usual document, and the path that the error names when it is not that place.
BROKEN: list[tuple[str, Any, str]] = [
    ("ociVersion", "2.0.0", ""),
    ("ociVersion", "0.9.0", ""),
    ("ociVersion", "1.0", ""),
    ("ociVersion", "1.02.0", ""),
    ("ociVersion", "one", ""),
    ("root/path", "", ""),
    ("process/cwd", "tmp", ""),
    ("process/cwd", "", ""),
    ("process/args", [], ""),
    ("process/args", DROP, ""),
    ("process/user/umask", 0o1000, ""),
    ("process/rlimits/0/type", "RLIMIT_SOFAS", ""),
    ("process/rlimits/0/soft", 2000, ""),
    ("process/rlimits", [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2, "$.process.rlimits[1].type"),
    ("process/oomScoreAdj", 1001, ""),
    ("process/scheduler", {"policy": "SCHED_SLOW"}, "$.process.scheduler.policy"),
    ("process/scheduler", {"policy": "SCHED_OTHER", "flags": ["X"]}, "$.process.scheduler.flags[0]"),
    ("process/scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "$.process.scheduler.nice"),
    ("process/scheduler", {"policy": "SCHED_OTHER", "priority": 1}, "$.process.scheduler.priority"),
    ("process/scheduler", {"policy": "SCHED_FIFO"}, "$.process.scheduler.priority"),
    ("process/scheduler", {"policy": "SCHED_DEADLINE", "runtime": 5}, "$.process.scheduler"),
    ("process/ioPriority", {"class": "IOPRIO_CLASS_NO", "priority": 0}, "$.process.ioPriority.class"),
    ("process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "$.process.ioPriority.priority"),
    ("process/execCPUAffinity", {"initial": "0-"}, "$.process.execCPUAffinity.initial"),
    ("process/execCPUAffinity", {"final": "all"}, "$.process.execCPUAffinity.final"),
    ("linux/namespaces/0/type", "net", ""),
    ("linux/namespaces/1/type", "pid", ""),
    ("linux/namespaces/0/path", "proc/1/ns/pid", ""),
    ("linux/namespaces", [{"type": "mount"}], "$.hostname"),
    ("hostname", "h" * 65, ""),
    ("domainname", "ä" * 33, ""),
    ("linux/uidMappings", [IDS], ""),
    ("linux/timeOffsets", {"monotonic": {"secs": 1}}, ""),
    ("linux/devices", [{"type": "x", "path": "/dev/x"}], "$.linux.devices[0].type"),
    ("linux/devices", [{**NULL, "path": "dev/null"}], "$.linux.devices[0].path"),
    ("linux/devices", [{"type": "b", "path": "/dev/sda", "minor": 0}], "$.linux.devices[0].major"),
    ("linux/devices", [{"type": "c", "path": "/dev/x", "major": 1}], "$.linux.devices[0].minor"),
    ("linux/devices", [{**NULL, "major": -1}], "$.linux.devices[0].major"),
    ("linux/devices", [{**NULL, "minor": 2**20}], "$.linux.devices[0].minor"),
    ("linux/devices", [{**NULL, "fileMode": 0o4666}], "$.linux.devices[0].fileMode"),
    ("linux/devices", [NULL, {**NULL, "minor": 5}], "$.linux.devices[1].path"),
    ("linux/netDevices", {"": {}}, '$.linux.netDevices[""]'),
    ("linux/netDevices", {"a/b": {}}, '$.linux.netDevices["a/b"]'),
    ("linux/netDevices", {"sixteen_letters_": {}}, "$.linux.netDevices.sixteen_letters_"),
    ("linux/netDevices", {"eth0": {"name": ".."}}, "$.linux.netDevices.eth0.name"),
    ("linux/netDevices", {"eth0": {"name": "a%s"}}, "$.linux.netDevices.eth0.name"),
    ("linux/netDevices", {"a": {"name": "x"}, "b": {"name": "x"}}, "$.linux.netDevices.b.name"),
    ("linux/sysctl", {"kernel.core_pattern": "|/x"}, '$.linux.sysctl["kernel.core_pattern"]'),
    ("linux/sysctl", {"vm.swappiness": "1"}, '$.linux.sysctl["vm.swappiness"]'),
    ("linux/sysctl", {"net/../kernel/core_pattern": "|/x"}, '$.linux.sysctl["net/../kernel/core_pattern"]'),
    ("linux/sysctl", {"net.//.kernel": "1"}, '$.linux.sysctl["net.//.kernel"]'),
    ("linux/sysctl", {"kernel.hostname": "other"}, '$.linux.sysctl["kernel.hostname"]'),
    ("linux/sysctl", {"user.max_user_namespaces": "1"}, '$.linux.sysctl["user.max_user_namespaces"]'),
    ("linux/maskedPaths/1", "proc/kcore", ""),
    ("linux/readonlyPaths/0", "", ""),
    ("linux/rootfsPropagation", "sideways", ""),
    ("linux/cgroupsPath", "/a/../../b", ""),
    ("linux/cgroupsPath", "..:a:b", ""),
    ("linux/personality", {"domain": "BSD"}, "$.linux.personality.domain"),
    ("linux/personality", {"domain": "LINUX", "flags": ["X"]}, "$.linux.personality.flags"),
    ("linux/memoryPolicy", {"mode": "MPOL_X"}, "$.linux.memoryPolicy.mode"),
    ("linux/memoryPolicy", {"mode": "MPOL_LOCAL", "flags": ["X"]}, "$.linux.memoryPolicy.flags[0]"),
    ("linux/memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "$.linux.memoryPolicy.nodes"),
    ("linux/memoryPolicy", {"mode": "MPOL_BIND"}, "$.linux.memoryPolicy.nodes"),
    ("linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "3-1"}, "$.linux.memoryPolicy.nodes"),
    ("linux/intelRdt", {"closID": "../x"}, "$.linux.intelRdt.closID"),
    ("linux/intelRdt", {"memBwSchema": "L3:1"}, "$.linux.intelRdt.memBwSchema"),
    ("linux/intelRdt", {"schemata": ["a", "b\nc"]}, "$.linux.intelRdt.schemata[1]"),
    ("mounts/0/destination", "", ""),
    ("mounts/0", {"destination": "/x", "options": ["rbind"]}, "$.mounts[0].source"),
    ("mounts/0/uidMappings", [IDS], "$.mounts[0].gidMappings"),
    ("mounts/0/gidMappings", [IDS], "$.mounts[0].uidMappings"),
    ("mounts/0/options", ["ro", "idmap"], "$.mounts[0].options[1]"),
    ("hooks", {"poststop": [{"path": "bin/x"}]}, "$.hooks.poststop[0].path"),
    ("hooks", {"prestart": [{"path": "/x"}, {"path": "/x", "timeout": 0}]}, "$.hooks.prestart[1].timeout"),
    ("annotations", {"": "x"}, '$.annotations[""]'),
    ("linux/resources/devices/0/type", "d", ""),
    ("linux/resources/devices/0/access", "xyz", ""),
    ("linux/resources/devices/0/major", -2, ""),
    ("linux/resources/devices/0/minor", 1 << 32, ""),
    ("linux/resources/memory", {"limit": -2}, "$.linux.resources.memory.limit"),
    ("linux/resources/memory", {"limit": 2, "swap": 1}, "$.linux.resources.memory.swap"),
    ("linux/resources/memory", {"limit": -1, "swap": 1}, "$.linux.resources.memory.swap"),
    ("linux/resources/memory", {"swappiness": 101}, "$.linux.resources.memory.swappiness"),
    ("linux/resources/cpu", {"quota": -5}, "$.linux.resources.cpu.quota"),
    ("linux/resources/cpu", {"quota": 5, "burst": 6}, "$.linux.resources.cpu.burst"),
    ("linux/resources/cpu", {"idle": 2}, "$.linux.resources.cpu.idle"),
    ("linux/resources/cpu", {"cpus": "0,,1"}, "$.linux.resources.cpu.cpus"),
    ("linux/resources/cpu", {"mems": "²"}, "$.linux.resources.cpu.mems"),
    ("linux/resources/pids", {"limit": -2}, "$.linux.resources.pids.limit"),
    ("linux/resources/blockIO", {"weight": 9}, "$.linux.resources.blockIO.weight"),
    ("linux/resources/blockIO", {"leafWeight": 1001}, "$.linux.resources.blockIO.leafWeight"),
    (
        "linux/resources/blockIO",
        {"weightDevice": [{"major": 8, "minor": 0}]},
        "$.linux.resources.blockIO.weightDevice[0]",
    ),
    (
        "linux/resources/hugepageLimits",
        [{"pageSize": "../MB", "limit": 1}],
        "$.linux.resources.hugepageLimits[0].pageSize",
    ),
    ("linux/resources/rdma", {"mlx5_1": {}}, "$.linux.resources.rdma.mlx5_1"),
    ("linux/resources/unified", {"../memory.max": "1"}, '$.linux.resources.unified["../memory.max"]'),
    ("linux/resources/unified", {"..": "1"}, '$.linux.resources.unified[".."]'),
    ("linux/resources/unified", {"cgroup.procs": "0"}, '$.linux.resources.unified["cgroup.procs"]'),
    ("linux/seccomp", {"defaultAction": "ALLOW"}, "$.linux.seccomp.defaultAction"),
    ("linux/seccomp", {**SECCOMP, "architectures": ["amd64"]}, "$.linux.seccomp.architectures[0]"),
    ("linux/seccomp", {**SECCOMP, "flags": ["LOG"]}, "$.linux.seccomp.flags[0]"),
    ("linux/seccomp", {**SECCOMP, "defaultErrnoRet": 1}, "$.linux.seccomp.defaultErrnoRet"),
    ("linux/seccomp", {**SECCOMP, "listenerMetadata": "x"}, "$.linux.seccomp.listenerMetadata"),
    ("linux/seccomp", {**SECCOMP, "listenerPath": "x"}, "$.linux.seccomp.listenerPath"),
    ("linux/seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "$.linux.seccomp.defaultAction"),
]

# The same for one rule of a seccomp profile.
BROKEN_SECCOMP_RULES: list[tuple[dict[str, Any], str]] = [
    ({"names": []}, "names"),
    ({"action": "DENY"}, "action"),
    ({"action": "SCMP_ACT_NOTIFY"}, "action"),
    ({"errnoRet": 1}, "errnoRet"),
    ({"action": "SCMP_ACT_ERRNO", "errnoRet": 65536}, "errnoRet"),
    ({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}, "args[0].index"),
    ({"args": [{"index": 0, "value": 0, "op": "=="}]}, "args[0].op"),
]


@pytest.mark.parametrize(("place", "value", "path"), BROKEN)
def test_a_broken_rule_names_the_place(place: str, value: Any, path: str) -> None:
    steps = [f"[{step}]" if step.isdigit() else f".{step}" for step in place.split("/")]
    error = refusal(put(usual(), place, value))
    assert error.path == (path or "$" + "".join(steps))
    assert "\n" not in str(error)


@pytest.mark.parametrize(("change", "path"), BROKEN_SECCOMP_RULES)
def test_a_broken_seccomp_rule_names_the_place(change: dict[str, Any], path: str) -> None:
    rule = {"names": ["chmod"], "action": "SCMP_ACT_ALLOW", **change}
    error = refusal(put(usual(), "linux/seccomp", {**SECCOMP, "syscalls": [rule]}))
    assert error.path == f"$.linux.seccomp.syscalls[0].{path}"


def test_write_cannot_be_asked_about() -> None:
    rule = {"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}
    error = refusal(put(usual(), "linux/seccomp", {**SECCOMP, "listenerPath": "/x", "syscalls": [rule]}))
    assert error.problem == "SCMP_ACT_NOTIFY cannot be used for the write syscall"


NEEDS_NAMESPACE: list[tuple[str, str, str]] = [
    ("uts", "hostname", "$.hostname"),
    ("mount", "linux/maskedPaths", "$.linux.maskedPaths"),
    ("network", "linux/netDevices", "$.linux.netDevices"),
    ("network", "linux/sysctl", '$.linux.sysctl["net.ipv4.ip_forward"]'),
    ("user", "linux/uidMappings", "$.linux.uidMappings"),
    ("time", "linux/timeOffsets", "$.linux.timeOffsets"),
]


def test_a_user_namespace_has_both_maps_or_none() -> None:
    document = full()
    for place in ("linux/uidMappings", "linux/gidMappings"):
        put(document, place, DROP)
    notices: list[Finding] = []
    load(document, notices.append)
    assert {"$.linux.uidMappings", "$.linux.gidMappings"} <= {notice.path for notice in notices}
    put(document, "linux/gidMappings", [IDS])
    assert refusal(document).path == "$.linux.uidMappings"


@pytest.mark.parametrize(("kind", "place", "path"), NEEDS_NAMESPACE)
def test_what_needs_a_namespace_is_refused_without_it(kind: str, place: str, path: str) -> None:
    document = full()
    for other in [other for _, other, _ in NEEDS_NAMESPACE if other != place]:
        put(document, other, DROP)
    put(document, "linux/gidMappings", DROP)
    put(document, "domainname", DROP)
    put(document, "linux/readonlyPaths", DROP)
    entries = document["linux"]["namespaces"]
    document["linux"]["namespaces"] = [entry for entry in entries if entry["type"] not in (kind, "user")]
    assert refusal(document).path == path


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("net.core.somaxconn", "network"),
        ("net/ipv4/conf/eth0.1/forwarding", "network"),
        ("kernel.shmmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ],
)
def test_a_namespaced_sysctl_needs_its_namespace(name: str, namespace: str) -> None:
    document = put(usual(), "linux/sysctl", {name: "1"})
    assert load(document).linux.sysctl == {name: "1"}
    del document["hostname"]
    kept = [entry for entry in document["linux"]["namespaces"] if entry["type"] != namespace]
    document["linux"]["namespaces"] = kept
    error = refusal(document)
    assert error.path == f'$.linux.sysctl["{name}"]'
    assert namespace in error.problem


@pytest.mark.parametrize(
    ("mappings", "path"),
    [
        ([{**IDS, "size": 0}], "[0].size"),
        ([{**IDS, "size": 2**32 - 1}], "[0].size"),
        ([IDS, {"containerID": 9, "hostID": 5000, "size": 1}], "[1].containerID"),
        ([{"containerID": 50, "hostID": 1005, "size": 1}, IDS], "[0].hostID"),
        ([{"containerID": n, "hostID": n, "size": 1} for n in range(341)], ""),
    ],
)
def test_mappings_the_kernel_does_not_take(mappings: list[Any], path: str) -> None:
    assert refusal(put(full(), "linux/uidMappings", mappings)).path == f"$.linux.uidMappings{path}"
    assert refusal(put(full(), "mounts/0/gidMappings", mappings)).path == f"$.mounts[0].gidMappings{path}"


def test_a_mapping_of_every_id_is_taken() -> None:
    everything = [{"containerID": 0, "hostID": 0, "size": 2**32 - 1}]
    assert load(put(full(), "linux/uidMappings", everything)).linux.uid_mappings[0].size == 2**32 - 1


def test_the_rules_are_told_and_what_is_no_reason_to_fail_is_a_notice() -> None:
    document = usual()
    put(document, "ociVersion", "1.9.0")
    put(document, "process/env", ["A=b", "none"])
    put(document, "process/capabilities/bounding", ["CAP_KILL", "CAP_FLY"])
    put(document, "process/capabilities/ambient", ["CAP_KILL"])
    put(document, "process/capabilities/effective", ["CAP_SYSLOG"])
    put(document, "mounts/1/destination", "dev")
    put(document, "linux/namespaces/0", {"type": "user", "path": "/proc/1/ns/user"})
    put(document, "linux/uidMappings", [IDS])
    put(document, "linux/resources/devices/0/access", "rwa")
    notices: list[Finding] = []
    config = load(document, notices.append)
    assert [notice.path for notice in notices] == [
        "$.ociVersion",
        "$.process.env[1]",
        "$.process.capabilities.bounding[1]",
        "$.process.capabilities.effective",
        "$.process.capabilities.ambient",
        "$.linux.uidMappings",
        "$.mounts[1].destination",
        "$.linux.resources.devices[0].access",
    ]
    assert not any(notice.fatal for notice in notices)
    assert config.mounts[1].destination == "/dev"
    assert config.mounts[0].destination == "/proc"
    assert config.process is not None
    assert config.process.capabilities is not None
    assert config.process.capabilities.bounding == ("CAP_KILL",)
    assert config.process.capabilities.permitted == ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def test_type_bits_of_a_device_mode_are_taken_off() -> None:
    devices = [{**NULL, "fileMode": 0o020666}, {"type": "p", "path": "/dev/fifo"}]
    config = load(put(usual(), "linux/devices", devices))
    assert [device.file_mode for device in config.linux.devices] == [0o666, None]


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.0.0-rc5", "1.2.1", "1.3.0+dev"])
def test_versions_that_are_supported(version: str) -> None:
    notices: list[Finding] = []
    assert load(put(usual(), "ociVersion", version), notices.append).oci_version == version
    assert not notices


@pytest.mark.parametrize("mode", ["", "private", "rslave", "rshared"])
def test_propagations(mode: str) -> None:
    assert load(put(usual(), "linux/rootfsPropagation", mode)).linux.rootfs_propagation == mode


def test_a_domain_name_has_one_source() -> None:
    document = put(put(usual(), "domainname", "a.org"), "linux/sysctl", {"kernel.domainname": "b.org"})
    assert refusal(document).path == '$.linux.sysctl["kernel.domainname"]'
    for name in ("a", "b"):
        document = put(put(usual(), "hostname", "a"), "linux/sysctl", {"kernel.hostname": name})
        assert refusal(document).path == '$.linux.sysctl["kernel.hostname"]'


def test_the_domain_name_may_be_said_twice() -> None:
    document = put(usual(), "domainname", "a.org")
    same = put(document, "linux/sysctl", {"kernel.domainname": "a.org"})
    assert load(same).domainname == "a.org"


def test_a_joined_time_namespace_takes_no_offsets() -> None:
    document = put(full(), "linux/namespaces/7", {"type": "time", "path": "/proc/1/ns/time"})
    assert refusal(document).path == "$.linux.timeOffsets"


@pytest.mark.parametrize(
    ("offsets", "path"),
    [({"realtime": {"secs": 1}}, ".realtime"), ({"boottime": {"nanosecs": 10**9}}, ".boottime.nanosecs")],
)
def test_offsets_of_no_clock_and_beyond_a_second(offsets: Any, path: str) -> None:
    assert refusal(put(full(), "linux/timeOffsets", offsets)).path == f"$.linux.timeOffsets{path}"


def test_a_template_may_name_two_interfaces() -> None:
    devices = {"a": {"name": "eth%d"}, "b": {"name": "eth%d"}}
    assert len(load(put(usual(), "linux/netDevices", devices)).linux.net_devices) == 2


def test_the_documents_of_exec_and_update() -> None:
    assert load_process({"cwd": "/", "args": ["sh"]}).args == ("sh",)
    with pytest.raises(SpecError, match=r"^\$\.args: is empty"):
        load_process({"cwd": "/"})
    assert load_resources({"pids": {"limit": 5}}).pids.limit == 5
    with pytest.raises(SpecError, match=r"^\$\.pids\.limit: expected a count"):
        load_resources({"pids": {"limit": -5}})


def test_a_config_built_in_python_is_checked_alike() -> None:
    config = Config(
        oci_version=OCI_VERSION,
        root=Root("rootfs"),
        process=Process(cwd="/", args=("sh",)),
        mounts=(Mount("proc", "proc"),),
        linux=Linux(namespaces=(Namespace("pid"), Namespace("mount"))),
    )
    check(config)
    assert tidy(config).mounts == (Mount("/proc", "proc"),)
    with pytest.raises(SpecError, match=r"^\$\.hostname: is given without a uts namespace \(it would"):
        check(config._replace(hostname="box"))


def test_every_rule_names_its_clause() -> None:
    from shimd.spec.process_rules import PROCESS_RULES
    from shimd.spec.resource_rules import RESOURCE_RULES
    from shimd.spec.seccomp_rules import SECCOMP_RULES

    rules: list[Callable[..., Any]] = [*CONFIG_RULES, *PROCESS_RULES, *RESOURCE_RULES, *SECCOMP_RULES]
    assert len(set(rules)) == len(rules)
    for rule in rules:
        assert (rule.__doc__ or "").startswith("config"), rule.__name__


def test_systemd_paths() -> None:
    assert systemd_path("machine.slice:docker:abc") == SystemdPath("machine.slice", "docker", "abc")
    assert systemd_path(":docker:abc") == SystemdPath("", "docker", "abc")
    for plain in ("", "/a:b:c", "a:b", "a:b:c:d", "a:b:", "/group/box"):
        assert systemd_path(plain) is None


def test_files_of_sysctls() -> None:
    assert sysctl_file("net.ipv4.ip_forward") == "net/ipv4/ip_forward"
    assert sysctl_file("net/ipv4/conf/eth0.1/mtu") == "net/ipv4/conf/eth0.1/mtu"
    assert sysctl_file("net.ipv4.conf.eth0/1.mtu") == "net/ipv4/conf/eth0.1/mtu"
    for bad in ("", ".", "net..x", "/net/x", "net/../kernel/x", "net./.x", "net.ipv4."):
        with pytest.raises(ValueError, match="is not the name"):
            sysctl_file(bad)
