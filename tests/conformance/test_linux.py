"""config-linux.md: sysctl, personality, memory policy, propagation, masked and read-only paths, IntelRdt, labels."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.bundle import Bundle
from tests.conformance.runtime import Runtime

pytestmark = pytest.mark.root

PROPAGATIONS = {"shared": "shared:", "slave": "", "private": "", "unbindable": "unbindable"}
PER_LINUX, PER_LINUX32 = 0, 8
MODES = {"MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_PREFERRED": 1, "MPOL_PREFERRED_MANY": 5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.core.somaxconn", "256"),
        ("kernel.msgmax", "8000"),
        ("fs.mqueue.msg_max", "7"),
    ],
)
def test_sysctl(bundle: Bundle, key: str, value: str) -> None:
    """config-linux.md, Sysctl: kernel parameters of the container, whose namespaces they belong to."""
    file = f"/proc/sys/{key.replace('.', '/')}"
    before = Path(file).read_text()
    bundle.linux["sysctl"] = {key: value}
    assert bundle.does("cat", file).report()[f"cat {file}"] == f"{value}\\n"
    assert Path(file).read_text() == before


def test_sysctl_of_the_machine_is_an_error(bundle: Bundle) -> None:
    """config-linux.md, Sysctl: for the container; one that is in no namespace would be the machine's."""
    value = Path("/proc/sys/vm/overcommit_memory").read_text().strip()  # that nothing changes if it is written
    bundle.linux["sysctl"] = {"vm.overcommit_memory": value}
    bundle.refused()


def test_sysctl_of_an_inherited_namespace_is_an_error(bundle: Bundle) -> None:
    """config-linux.md, Sysctl: nor one of a namespace that the container shares with the machine."""
    value = Path("/proc/sys/kernel/msgmax").read_text().strip()
    bundle.without_namespace("ipc").linux["sysctl"] = {"kernel.msgmax": value}
    bundle.refused()


def test_sysctl_that_the_kernel_lacks(bundle: Bundle) -> None:
    """runtime.md, Create: what cannot be applied MUST be an error."""
    bundle.linux["sysctl"] = {"net.ipv4.no_such_key": "1"}
    bundle.refused()


@pytest.mark.parametrize(("domain", "number"), [("LINUX", PER_LINUX), ("LINUX32", PER_LINUX32)])
def test_personality(bundle: Bundle, domain: str, number: int) -> None:
    """config-linux.md, Personality: LINUX32 shows a 32 bit machine."""
    bundle.linux["personality"] = {"domain": domain}
    facts = bundle.report()
    assert int(facts["personality"], 16) & 0xFF == number
    assert facts["machine"] == ({"x86_64": "i686"}.get(os.uname().machine) if number else os.uname().machine)


def test_unknown_personality_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: MUST be an error."""
    bundle.linux["personality"] = {"domain": "MOON"}
    bundle.refused()


@pytest.mark.parametrize("mode", MODES)
def test_memory_policy(bundle: Bundle, mode: str) -> None:
    """config-linux.md, Memory policy (1.3): mode and nodes of set_mempolicy(2)."""
    bundle.linux["memoryPolicy"] = {"mode": mode, "nodes": "0"}
    assert bundle.report()["mempolicy"] == f"{MODES[mode]}:1"


@pytest.mark.parametrize("mode", ["MPOL_DEFAULT", "MPOL_LOCAL"])
def test_memory_policy_without_nodes(bundle: Bundle, mode: str) -> None:
    """config-linux.md, Memory policy: some modes have no nodes."""
    bundle.linux["memoryPolicy"] = {"mode": mode}
    assert bundle.report()["mempolicy"].split(":")[0] in ("0", "4")


def test_memory_policy_flags(bundle: Bundle) -> None:
    """config-linux.md, Memory policy, flags: MPOL_F_STATIC_NODES is bit 15 of the mode."""
    bundle.linux["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}
    assert bundle.report()["mempolicy"] == f"{MODES['MPOL_BIND'] | 1 << 15}:1"


WRONG_POLICIES: dict[str, dict[str, Any]] = {
    "mode": {"mode": "MPOL_MOON"},
    "flag": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_MOON"]},
    "nodes": {"mode": "MPOL_BIND", "nodes": "4000"},
    "no nodes": {"mode": "MPOL_BIND"},
}


@pytest.mark.parametrize("wrong", WRONG_POLICIES)
def test_wrong_memory_policies_are_errors(bundle: Bundle, wrong: str) -> None:
    """config.md, Valid values: MUST be errors."""
    bundle.linux["memoryPolicy"] = WRONG_POLICIES[wrong]
    bundle.run().refused()


@pytest.mark.parametrize("kind", PROPAGATIONS)
def test_rootfs_propagation(bundle: Bundle, kind: str) -> None:
    """config-linux.md, Rootfs Mount Propagation: of the container's root mount."""
    bundle.linux["rootfsPropagation"] = kind
    lines = [value.split() for key, value in bundle.report().items() if key.startswith("mount ")]
    root = next(words for words in lines if words[4] == "/")
    fields = "".join(root[6 : root.index("-")])
    assert fields.startswith(PROPAGATIONS[kind]) if PROPAGATIONS[kind] else not fields.startswith("shared")


def test_unknown_propagation_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: MUST be an error."""
    bundle.linux["rootfsPropagation"] = "moon"
    bundle.refused()


def test_masked_file(bundle: Bundle) -> None:
    """config-linux.md, Masked Paths: cannot be read inside."""
    (bundle.rootfs / "data/secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/data/secret", "/proc/interrupts"]
    facts = bundle.does("cat", "/data/secret", ",", "cat", "/proc/interrupts").report()
    assert (facts["cat /data/secret"], facts["cat /proc/interrupts"]) == ("", "")


def test_masked_directory(bundle: Bundle) -> None:
    """config-linux.md, Masked Paths: a directory is empty and takes nothing."""
    (bundle.rootfs / "data/secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/data"]
    facts = bundle.does("ls", "/data", ",", "touch", "/data/new").report()
    assert (facts["ls /data"], facts["touch /data/new"]) == ("", "EROFS")


def test_masked_path_that_is_not_there(bundle: Bundle) -> None:
    """config-linux.md, Masked Paths: every engine's list names files of other kernels."""
    bundle.linux["maskedPaths"] = ["/proc/of/another/kernel"]
    assert bundle.report()["pid"] == "1"


def test_readonly_paths(bundle: Bundle) -> None:
    """config-linux.md, Readonly Paths: set as read-only inside; what is beside them is not."""
    (bundle.rootfs / "data/file").write_text("old")
    (bundle.rootfs / "mnt/file").write_text("old")
    bundle.linux["readonlyPaths"] = ["/data", "/proc/sys", "/proc/of/another/kernel"]
    bundle.does("write", "/data/file", "new", ",", "write", "/mnt/file", "new", ",", "touch", "/data/more")
    facts = bundle.report()
    assert (facts["write /data/file"], facts["write /mnt/file"], facts["touch /data/more"]) == ("EROFS", "ok", "EROFS")


def test_readonly_proc_sys(bundle: Bundle) -> None:
    """config-linux.md, Readonly Paths: of a file system that was mounted for the container."""
    bundle.linux["readonlyPaths"] = ["/proc/sys"]
    file = "/proc/sys/kernel/domainname"
    assert bundle.does("write", file, "new").report()[f"write {file}"] == "EROFS"


def test_intel_rdt_without_resctrl(bundle: Bundle) -> None:
    """config-linux.md, IntelRdt: if no resctrl is mounted, an error MUST be generated."""
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("this machine has resctrl")
    bundle.linux["intelRdt"] = {"closID": "conformance", "memBwSchema": "MB:0=20"}
    bundle.run().refused()


@pytest.mark.parametrize(
    ("section", "key", "value", "there"),
    [
        ("process", "apparmorProfile", "conformance-profile", "/sys/kernel/security/apparmor"),
        ("process", "selinuxLabel", "system_u:system_r:container_t:s0", "/sys/fs/selinux/enforce"),
        ("linux", "mountLabel", "system_u:object_r:container_file_t:s0", "/sys/fs/selinux/enforce"),
    ],
    ids=["apparmorProfile", "selinuxLabel", "mountLabel"],
)
def test_labels_of_a_module_that_is_not_there(bundle: Bundle, section: str, key: str, value: str, there: str) -> None:
    """runtime.md, Create: a property that cannot be applied MUST be an error; a silent skip would be no label."""
    if os.path.exists(there):
        pytest.skip("this machine has the module")
    bundle.config[section][key] = value
    bundle.run().refused()


def test_another_runtime_sees_nothing(bundle: Bundle, runtime: Runtime) -> None:
    """runtime.md, Scope of a Container: within the runtime's own directory; the scope is the runtime's to choose."""
    container = bundle.create()
    elsewhere = Runtime(runtime.program, runtime.room, bundle.path / "elsewhere")
    elsewhere("state", container.id).refused()
    assert container.exists()
