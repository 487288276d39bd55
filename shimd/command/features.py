"""features: what this runtime can do (runtime-spec features.md), read off the tables by which it does it.

Whether a property is built is asked of the plan itself: a config with it is compiled, and a refusal is a no. So this
cannot say what create would not do.
"""

from __future__ import annotations

import os
from typing import Any

from shimd.command.context import Context
from shimd.command.state import print_json
from shimd.command.version import version
from shimd.container import bundle, options
from shimd.container.namespaces import FLAGS
from shimd.errors import RuntimeTrouble
from shimd.linux import cgroups
from shimd.linux.identity import CAPABILITIES
from shimd.spec import names
from shimd.spec.config import OCI_VERSION, Hooks
from shimd.spec.decode import property_name
from shimd.spec.errors import SpecError
from shimd.spec.validate import load

OLDEST = "1.0.0"


def main(context: Context) -> int:
    print_json(document())
    return 0


def document() -> dict[str, Any]:
    trees = cgroups.hierarchies()
    return {
        "ociVersionMin": OLDEST,
        "ociVersionMax": OCI_VERSION,
        "hooks": [property_name(field) for field in Hooks._fields],
        "mountOptions": mount_options(),
        "linux": {
            "namespaces": sorted(FLAGS),
            "capabilities": [f"CAP_{name}" for name in CAPABILITIES],
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": any("rdma" in tree.controllers for tree in trees),
            },
            "seccomp": _seccomp(),
            "apparmor": {"enabled": builds(process={"apparmorProfile": "unconfined"})},
            "selinux": {"enabled": builds(process={"selinuxLabel": "system_u:system_r:container_t:s0"})},
            "intelRdt": {"enabled": os.path.isdir("/sys/fs/resctrl/info") and builds(linux={"intelRdt": {}})},
            "memoryPolicy": _memory_policy(),
            "mountExtensions": {"idmap": {"enabled": builds(mounts=[_idmapped()])}},
            "netDevices": {"enabled": builds(linux={"netDevices": {"eth9": {}}})},
        },
        "annotations": {"org.asyncrt.version": version()},
    }


def mount_options() -> list[str]:
    """Every word that is not handed to the file system."""
    return sorted(options.names())


def _seccomp() -> dict[str, Any]:
    if not builds(linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}):
        return {"enabled": False}
    return {
        "enabled": True,
        "actions": sorted(names.SECCOMP_ACTIONS),
        "operators": sorted(names.SECCOMP_OPERATORS),
        "archs": sorted(names.SECCOMP_ARCHITECTURES),
        "knownFlags": sorted(names.SECCOMP_FLAGS),
        "supportedFlags": [flag for flag in sorted(names.SECCOMP_FLAGS) if _takes_flag(flag)],
    }


def _takes_flag(flag: str) -> bool:
    return builds(linux={"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}})


def _memory_policy() -> dict[str, Any]:
    if not builds(linux={"memoryPolicy": {"mode": "MPOL_DEFAULT"}}):
        return {}
    return {"modes": sorted(names.MEMORY_MODES), "flags": sorted(names.MEMORY_FLAGS)}


def _idmapped(word: str = "idmap") -> dict[str, Any]:
    pair = [{"containerID": 0, "hostID": 1000, "size": 1}]
    place = {"destination": "/mnt", "type": "bind", "source": "/", "options": ["bind", word]}
    return {**place, "uidMappings": pair, "gidMappings": pair}


def builds(**properties: Any) -> bool:
    """Is a config with these properties compiled to a plan?"""
    config = {
        "ociVersion": OCI_VERSION,
        "root": {"path": "/"},
        "process": {"cwd": "/", "args": ["true"], **properties.pop("process", {})},
        "mounts": properties.pop("mounts", []),
        "linux": {
            "namespaces": [{"type": kind} for kind in ("mount", "network", "pid")],
            **properties.pop("linux", {}),
        },
        **properties,
    }
    try:
        bundle.compile(load(config), [], bundle.Wish())
    except (RuntimeTrouble, SpecError):
        return False
    return True
