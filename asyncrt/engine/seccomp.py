"""--security-opt seccomp=...: the engine's own profile, none, or one that the caller wrote.

profile("", held)              the table of system_calls.py, for a container with these capabilities
profile("unconfined", held)    None
profile('{"defaultAction"...', held)   a document in the OCI's form, or in Docker's with archMap, includes, excludes
"""

from __future__ import annotations

import functools
import os
from typing import Any

import msgspec

from asyncrt.engine import system_calls as table
from asyncrt.errors import BadRequest
from shimd.spec.decode import decode
from shimd.spec.errors import SpecError
from shimd.spec.linux import Seccomp, SeccompArg, SeccompRule
from shimd.spec.seccomp_rules import SECCOMP_RULES

UNCONFINED = "unconfined"
FLAG = "--security-opt seccomp"
ALLOW, ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
EPERM, ENOSYS = 1, 38
# The architecture of a machine, Docker's name of it, and whose calls its kernel takes besides.
MACHINES = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64", ("SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64", ("SCMP_ARCH_ARM",)),
    "s390x": ("SCMP_ARCH_S390X", "s390x", ("SCMP_ARCH_S390",)),
    "ppc64le": ("SCMP_ARCH_PPC64LE", "ppc64le", ()),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv64", ()),
    "loongarch64": ("SCMP_ARCH_LOONGARCH64", "loong64", ()),
}
# seccomp(2): no mitigation against speculative store bypass on account of a filter alone, as the kernel's own default
# is since Linux 5.16, and runc's.
FLAGS = ("SECCOMP_FILTER_FLAG_SPEC_ALLOW",)


def profile(wish: str, held: tuple[str, ...]) -> Seccomp | None:
    """The filter of a container that holds these capabilities. BadRequest for a document that is no profile."""
    if wish == UNCONFINED:
        return None
    machine = os.uname().machine
    if machine not in MACHINES:
        raise BadRequest("confine", "the container", f"there is no profile for a {machine}", f"{FLAG}={UNCONFINED}")
    return own(held, machine) if not wish else written(wish, held, machine)


@functools.lru_cache(64)
def own(held: tuple[str, ...], machine: str) -> Seccomp:
    """The table as a profile."""
    native, _, others = MACHINES[machine]
    names = [name for row in table.ALLOWED for name in row.calls.split()]
    names += [name for capability in held for name in table.WITH_CAPABILITY.get(capability, "").split()]
    rules = [SeccompRule(tuple(dict.fromkeys(names)), ALLOW)]
    if "CAP_SYS_ADMIN" not in held:
        # s390 has the first two arguments of clone(2) the other way round.
        flags = SeccompArg(1 if machine == "s390x" else 0, table.CLONE_NEW_ANY, "SCMP_CMP_MASKED_EQ", 0)
        rules.append(SeccompRule(("clone",), ALLOW, args=(flags,)))
        rules.append(SeccompRule(("clone3",), ERRNO, ENOSYS))
    between = table.AF_ALG + 1
    families = ((table.AF_ALG, "SCMP_CMP_LT"), (between, "SCMP_CMP_EQ"), (table.AF_VSOCK, "SCMP_CMP_GT"))
    rules += [SeccompRule(("socket",), ALLOW, args=(SeccompArg(0, family, op),)) for family, op in families]
    rules += [
        SeccompRule(("personality",), ALLOW, args=(SeccompArg(0, value, "SCMP_CMP_EQ"),))
        for value in table.PERSONALITIES
    ]
    return Seccomp(ERRNO, EPERM, (native, *others), FLAGS, syscalls=tuple(rules))


@functools.lru_cache(16)
def written(text: str, held: tuple[str, ...], machine: str) -> Seccomp:
    """A caller's document as a profile. BadRequest names the place in it."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadRequest("read", FLAG, f"the profile is no JSON: {str(error).lower()}") from error
    if not isinstance(document, dict):
        raise BadRequest("read", FLAG, "the profile is no JSON object")
    try:
        made = decode(Seccomp, _for_this_container(document, held, machine))
        for rule in SECCOMP_RULES:
            for finding in rule(made, "$"):
                if finding.fatal:
                    raise SpecError(finding.path, finding.problem, finding.hint)
    except SpecError as error:
        raise BadRequest("read", FLAG, str(error)) from error
    return made


def _for_this_container(document: dict[str, Any], held: tuple[str, ...], machine: str) -> dict[str, Any]:
    """Docker's additions resolved: what is left is the OCI's form. What is of another type is left for decode()."""
    native, word, _ = MACHINES[machine]
    plain = {key: value for key, value in document.items() if key not in ("archMap", "syscalls", "defaultErrno")}
    for entry in _objects(document.get("archMap")):
        if entry.get("architecture") == native:
            plain["architectures"] = [native, *(entry.get("subArchitectures") or ())]
    if "syscalls" in document:
        rules = document["syscalls"]
        if isinstance(rules, list) and all(isinstance(rule, dict) for rule in rules):
            rules = [_plain(rule) for rule in rules if _applies(rule, held, word)]
        plain["syscalls"] = rules
    return plain


def _plain(rule: dict[str, Any]) -> dict[str, Any]:
    """`name` is the older form of `names`."""
    kept = {key: value for key, value in rule.items() if key in ("names", "action", "errnoRet", "args")}
    if "names" not in kept and "name" in rule:
        kept["names"] = [rule["name"]]
    return kept


def _applies(rule: dict[str, Any], held: tuple[str, ...], word: str) -> bool:
    """All that `includes` asks for, and nothing that `excludes` names."""
    asked, refused = rule.get("includes") or {}, rule.get("excludes") or {}
    if not isinstance(asked, dict) or not isinstance(refused, dict):
        raise SpecError("$.syscalls", "includes and excludes are objects")
    if asked.get("arches") and word not in asked["arches"]:
        return False
    if not set(asked.get("caps") or ()).issubset(held):
        return False
    if asked.get("minKernel") and _kernel() < _version(asked["minKernel"]):
        return False
    if word in (refused.get("arches") or ()) or set(refused.get("caps") or ()).intersection(held):
        return False
    return not (refused.get("minKernel") and _kernel() >= _version(refused["minKernel"]))


def _objects(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _kernel() -> tuple[int, int]:
    return _version(os.uname().release)


def _version(text: str) -> tuple[int, int]:
    """Major and minor, as in 6.18.44-x."""
    major, _, rest = str(text).partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        raise SpecError("$.syscalls", f"minKernel {text!a:.40} is no version", "as in 4.8")
    return int(major), int(minor)
