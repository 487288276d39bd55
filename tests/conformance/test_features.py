"""features.md and features-linux.md: what the runtime says of itself, and whether it keeps it."""

import json
from typing import Any

import pytest

from tests.conformance.bundle import Bundle, needs_id_maps
from tests.conformance.runtime import Runtime

pytestmark = pytest.mark.root

SAME_ORDER = {f"SCMP_ARCH_{name}" for name in ("X86", "X86_64", "X32", "ARM", "AARCH64", "PPC64LE", "RISCV64")}


@pytest.fixture
def features(runtime: Runtime) -> dict[str, Any]:
    """The document of the ``features`` command."""
    document: dict[str, Any] = json.loads(runtime("features").ok().out)
    return document


def test_versions(features: dict[str, Any]) -> None:
    """features.md, Specification version: ociVersionMin and ociVersionMax are REQUIRED."""
    assert features["ociVersionMin"].split(".")[0] == "1"
    assert features["ociVersionMax"].split(".")[0] == "1"


def test_hooks(features: dict[str, Any]) -> None:
    """features.md, Hooks: the recognised names."""
    wanted = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}
    assert set(features["hooks"]) == wanted


def test_mount_options(features: dict[str, Any]) -> None:
    """features.md, Mount Options: the recognised names, with all that MUST be."""
    must = {"async", "bind", "defaults", "nodev", "noexec", "nosuid", "private", "rbind", "remount", "ro", "rshared"}
    assert must <= set(features["mountOptions"])


@pytest.mark.parametrize("option", ["rro", "rnosuid", "tmpcopyup", "nosymfollow", "idmap"])
def test_mount_options_are_kept(bundle: Bundle, features: dict[str, Any], option: str) -> None:
    """features.md, Mount Options: what is named is recognised."""
    if option not in features["mountOptions"]:
        pytest.skip(f"{option} is not named")
    (bundle.path / "source").mkdir()
    ids = [{"containerID": 0, "hostID": 1000, "size": 10}]
    if option == "tmpcopyup":
        bundle.mount("/data", "tmpfs", "tmpfs", option)
    elif option == "idmap":
        needs_id_maps(bundle.path)
        bundle.mount("/data", "bind", "source", "bind", option, uidMappings=ids, gidMappings=ids)
    else:
        bundle.mount("/data", "bind", "source", "rbind", option)
    assert bundle.report()["pid"] == "1"


def test_namespaces(features: dict[str, Any]) -> None:
    """features-linux.md, Namespaces: the recognised names."""
    assert {"pid", "network", "mount", "ipc", "uts", "user", "cgroup"} <= set(features["linux"]["namespaces"])


def test_capabilities(bundle: Bundle, features: dict[str, Any]) -> None:
    """features-linux.md, Capabilities: each named one is recognised."""
    names = features["linux"]["capabilities"]
    assert "CAP_CHOWN" in names
    bundle.process["capabilities"] = {"bounding": names, "effective": names, "permitted": names}
    assert bundle.report()["pid"] == "1"


def test_cgroup(features: dict[str, Any]) -> None:
    """features-linux.md, Cgroup: both versions, as booleans."""
    cgroup = features["linux"]["cgroup"]
    assert cgroup["v1"] is True
    assert cgroup["v2"] is True
    assert isinstance(cgroup["systemd"], bool)


def test_seccomp(features: dict[str, Any]) -> None:
    """features-linux.md, Seccomp: actions, operators, architectures."""
    seccomp = features["linux"]["seccomp"]
    assert seccomp["enabled"] is True
    assert {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_NOTIFY"} <= set(seccomp["actions"])
    assert {"SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"} <= set(seccomp["operators"])
    assert "SCMP_ARCH_X86_64" in seccomp["archs"]


def test_seccomp_names_are_kept(bundle: Bundle, features: dict[str, Any]) -> None:
    """features-linux.md, Seccomp: names are taken (architectures of one byte order, flags that need no listener)."""
    seccomp = features["linux"]["seccomp"]
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [name for name in seccomp["archs"] if name in SAME_ORDER],
        "flags": [name for name in seccomp.get("supportedFlags", []) if not name.endswith("WAIT_KILLABLE_RECV")],
        "syscalls": [{"names": ["sched_yield"], "action": "SCMP_ACT_ERRNO"}],
    }
    assert bundle.report()["status Seccomp"] == "2"


@pytest.mark.parametrize("name", ["apparmor", "selinux", "intelRdt", "netDevices"])
def test_what_is_built_in(features: dict[str, Any], name: str) -> None:
    """features-linux.md: whether the runtime supports it, irrelevant to the machine."""
    assert isinstance(features["linux"][name]["enabled"], bool)


def test_memory_policy(features: dict[str, Any]) -> None:
    """features-linux.md, MemoryPolicy (1.3): modes and flags."""
    assert "MPOL_BIND" in features["linux"]["memoryPolicy"]["modes"]


def test_idmapped_mounts(features: dict[str, Any]) -> None:
    """features-linux.md, MountExtensions: whether uidMappings of mounts are recognised."""
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"] is True
