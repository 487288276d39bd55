"""The engine's filter, call by call, beside the profile that Debian's golang-github-containers-common installs.

Both are compiled, and every call of three architectures is put to both, with the arguments that either tells apart,
for Docker's capabilities, for none, for all, and for each one added. What they do not agree on is listed here with
its reason, and nothing else may differ.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncrt.engine import seccomp, system_calls
from asyncrt.engine.defaults import CAPABILITIES
from asyncrt.errors import BadRequest
from shimd.container.seccomp import compiled
from shimd.linux import seccomp as kernel
from shimd.linux.identity import NUMBER_OF
from shimd.spec.linux import Seccomp, SeccompArg, SeccompRule
from tests.shimd.filter_machine import ALLOW, I386, X32_BIT, X86_64, errno, verdict

SHIPPED = Path("/usr/share/containers/seccomp.json")
MACHINE = "x86_64"
DOCKERS = (*CAPABILITIES, "CAP_MKNOD")

MOUNTING = "fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree umount umount2"
# What they let everybody do, Docker and we only with one of these. Most open a way into parts of the kernel that ask
# for capabilities in a user namespace of one's own.
ONLY_WITH = {
    f"clone3 setns unshare {MOUNTING}": ["CAP_SYS_ADMIN"],
    "syslog": ["CAP_SYS_ADMIN", "CAP_SYSLOG"],
    "get_mempolicy mbind set_mempolicy": ["CAP_SYS_NICE"],
    "pidfd_getfd": ["CAP_SYS_PTRACE"],
    "reboot": ["CAP_SYS_BOOT"],
}
# What they let everybody do (or whoever may load modules), Docker and we nobody: keys have no namespace, a root is
# changed by the runtime, and the rest is older than anything that runs today.
NEVER = "keyctl pivot_root query_module readdir sigaction signal sigpending sigsuspend"
# What their profile of 2022 did not know or did not allow yet, and Docker's does.
YOUNGER = """cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat io_pgetevents
    io_pgetevents_time64 listmount listxattrat map_shadow_stack mseal removexattrat setxattrat statmount uretprobe
    vmsplice"""
YOUNGER_WITH = {
    "lsm_get_self_attr lsm_list_modules lsm_set_self_attr quotactl_fd": ["CAP_SYS_ADMIN"],
    "set_mempolicy_home_node": ["CAP_SYS_NICE"],
    # They ask for CAP_SYS_ADMIN, from which Linux 5.8 split these off.
    "bpf": ["CAP_BPF"],
    "perf_event_open": ["CAP_PERFMON"],
}
AF_NETLINK, AF_ALG, AF_VSOCK, NETLINK_AUDIT = 16, 38, 40, 9
NEW_NAMESPACES = 0x7E020000
ARGUMENTS = {
    "socket": [
        (family, 1, protocol) for family in (1, 2, 10, 16, 17, 37, 38, 39, 40, 41, 44) for protocol in (0, 9, 15)
    ],
    "clone": [(0x1200011, 0, 0), (0x3D0F00, 0, 0), *((1 << bit, 0, 0) for bit in range(32))],
    "personality": [(value, 0, 0) for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 0x40000, 0x400000, 1, 0xFFFFFFFE)],
}


def needs_the_shipped_one() -> None:
    if not SHIPPED.exists():
        pytest.skip(f"there is no {SHIPPED}: apt-get install golang-github-containers-common")


def resolved(document: dict[str, Any], held: set[str]) -> Seccomp:
    """Their document for one container on x86_64, by the words of containers-common's seccomp.json(5)."""
    rules = []
    for rule in document["syscalls"]:
        asked, refused = rule["includes"], rule["excludes"]
        if not set(asked.get("caps", [])) <= held or set(refused.get("caps", [])) & held:
            continue
        if "amd64" not in asked.get("arches", ["amd64"]) or "amd64" in refused.get("arches", []):
            continue
        args = tuple(SeccompArg(one["index"], one["value"], one["op"], one["valueTwo"]) for one in rule["args"] or [])
        rules.append(SeccompRule(tuple(rule["names"]), rule["action"], rule.get("errnoRet"), args))
    [native] = [one for one in document["archMap"] if one["architecture"] == "SCMP_ARCH_X86_64"]
    architectures = ("SCMP_ARCH_X86_64", *native["subArchitectures"])
    return Seccomp(document["defaultAction"], document["defaultErrnoRet"], architectures, syscalls=tuple(rules))


def ours(held: set[str]) -> bytes:
    return compiled(seccomp.own(tuple(sorted(held)), MACHINE)._replace(flags=()))


def calls() -> Iterator[tuple[str, int, int]]:
    """(name, AUDIT_ARCH, number) of every call that either profile, or the kernel's young table, has a name for."""
    names = {name for rule in json.loads(SHIPPED.read_text())["syscalls"] for name in rule["names"]}
    names |= {name for row in system_calls.ALLOWED for name in row.calls.split()}
    names |= {name for row in system_calls.WITH_CAPABILITY.values() for name in row.split()}
    for name in sorted(names | kernel.YOUNG_CALLS.keys()):
        for architecture, value in (("X86_64", X86_64), ("X86", I386), ("X32", X86_64)):
            number = kernel.resolve_on(f"SCMP_ARCH_{architecture}", name)
            if number >= 0:
                yield name, value, number


def expected(name: str, arguments: tuple[int, ...], theirs: bool, held: set[str]) -> bool:
    """Whether we allow a call, given whether they do."""
    if name == "socket":
        if arguments[0] in (AF_ALG, AF_VSOCK):
            return False  # neither has a namespace: Docker has taken both out since
        # They refuse the audit socket without CAP_AUDIT_WRITE: the kernel does so for each message.
        return theirs or (arguments[0], arguments[2]) == (AF_NETLINK, NETLINK_AUDIT)
    if name == "clone":
        return theirs and ("CAP_SYS_ADMIN" in held or not arguments[0] & NEW_NAMESPACES)
    if wanted := capabilities_for(name, ONLY_WITH):
        return theirs and bool(wanted & held)
    if wanted := capabilities_for(name, YOUNGER_WITH):
        return theirs or bool(wanted & held)
    return name not in NEVER.split() and (theirs or name in YOUNGER.split())


def capabilities_for(name: str, table: dict[str, list[str]]) -> set[str]:
    """Those beside the row that has `name`; none without a row."""
    return {capability for row, wanted in table.items() for capability in wanted if name in row.split()}


CASES = [
    pytest.param(set(DOCKERS), id="docker"),
    pytest.param(set(), id="none"),
    pytest.param(set(NUMBER_OF), id="all"),
    *(pytest.param({*DOCKERS, name}, id=name) for name in sorted(NUMBER_OF.keys() - set(DOCKERS))),
]


@pytest.mark.parametrize("held", CASES)
def test_every_call_beside_the_shipped_profile(held: set[str]) -> None:
    needs_the_shipped_one()
    theirs, our = compiled(resolved(json.loads(SHIPPED.read_text()), held)), ours(held)
    wrong = []
    judged = 0
    for name, architecture, number in calls():
        for arguments in ARGUMENTS.get(name, [(0, 0, 0), (16, 2, 9), (0xFFFFFFFF, 1, 1)]):
            there = verdict(theirs, number, arguments, architecture) == ALLOW
            here = verdict(our, number, arguments, architecture) == ALLOW
            judged += 1
            if here != expected(name, arguments, there, held):
                wrong.append((name, hex(architecture), hex(number), arguments, here))
    assert not wrong
    assert judged > 2000


def test_what_is_listed_as_different_is() -> None:
    """A name in a list of exceptions that is none would hide the next difference."""
    needs_the_shipped_one()
    none: set[str] = set()
    theirs, our = compiled(resolved(json.loads(SHIPPED.read_text()), none)), ours(none)
    more, less = set(), set()
    for name, architecture, number in calls():
        there = verdict(theirs, number, (), architecture) == ALLOW
        here = verdict(our, number, (), architecture) == ALLOW
        if here != there:
            (more if here else less).add(name)
    assert less == set(f"{NEVER} {' '.join(ONLY_WITH)}".split()) - {"query_module"}  # that with CAP_SYS_MODULE
    assert more == set(YOUNGER.split()) & {name for name, _, _ in calls()}


def test_a_refusal_is_eperm_and_a_call_from_the_future_is_missing() -> None:
    program = ours(set(DOCKERS))
    number = kernel.resolve_on("SCMP_ARCH_X86_64", "mount")
    assert verdict(program, number) == errno(1)
    for future in (600, 600 | X32_BIT):
        assert verdict(program, future) == errno(38)
    assert verdict(program, 600, architecture=I386) == errno(38)
    clone3 = kernel.resolve_on("SCMP_ARCH_X86_64", "clone3")
    assert verdict(program, clone3) == errno(38)  # its flags are out of a filter's sight: a C library tries clone


def test_no_call_stands_in_two_rows() -> None:
    names = [name for row in system_calls.ALLOWED for name in row.calls.split()]
    assert len(names) == len(set(names))
    assert all(row.purpose for row in system_calls.ALLOWED)
    assert not set(names) & {name for row in system_calls.WITH_CAPABILITY.values() for name in row.split()}


def test_unconfined() -> None:
    assert seccomp.profile("unconfined", DOCKERS) is None


def test_the_oci_form() -> None:
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
    }
    assert seccomp.profile(json.dumps(document), DOCKERS) == Seccomp(
        "SCMP_ACT_ALLOW",
        architectures=("SCMP_ARCH_X86",),
        syscalls=(SeccompRule(("mkdir",), "SCMP_ACT_ERRNO", 5),),
    )


def test_dockers_form() -> None:
    """includes, excludes, archMap, minKernel and the older `name`."""

    def rule(name: str, **more: Any) -> dict[str, Any]:
        return {"names": [name], "action": "SCMP_ACT_ALLOW", "comment": "", **more}

    rules = [
        rule("read"),
        rule("chroot", includes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("mount", includes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("clone", excludes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("clone3", excludes={"caps": ["CAP_SYS_CHROOT"]}),
        rule("breakpoint", includes={"arches": ["arm"]}),
        rule("arch_prctl", includes={"arches": ["amd64", "x32"]}),
        rule("stat", excludes={"arches": ["amd64"]}),
        rule("ptrace", includes={"minKernel": "4.8"}),
        rule("mseal", includes={"minKernel": "999.0"}),
        {"name": "write", "action": "SCMP_ACT_ALLOW", "args": None},
    ]
    arch_map = [
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
    ]
    document = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM", "archMap": arch_map, "syscalls": rules}
    made = seccomp.written(json.dumps(document), DOCKERS, MACHINE)
    assert (
        " ".join(name for rule in made.syscalls for name in rule.names) == "read chroot clone arch_prctl ptrace write"
    )
    assert made.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")


def test_the_shipped_profile_can_be_asked_for() -> None:
    needs_the_shipped_one()
    text = SHIPPED.read_text()
    made = seccomp.written(text, DOCKERS, MACHINE)
    assert compiled(made) == compiled(resolved(json.loads(text), set(DOCKERS)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "the profile is no JSON: "),
        ("[]", "the profile is no JSON object"),
        ("{}", r"\$\.defaultAction: is required"),
        ('{"defaultAction": "SCMP_ACT_NONE"}', r"\$\.defaultAction: unknown action"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": 7}', r"\$\.syscalls: expected an array"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [7]}', r"\$\.syscalls\[0\]: expected an object"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}',
            r"\$\.syscalls\[0\]\.names: is required",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "includes": {"minKernel": "x"}}]}',
            r"\$\.syscalls: minKernel 'x' is no version",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "includes": 1}]}',
            r"\$\.syscalls: includes and excludes are objects",
        ),
    ],
)
def test_what_is_no_profile(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=f"read --security-opt seccomp: {said}"):
        seccomp.profile(text, DOCKERS)


def test_a_machine_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "MACHINES", {})
    with pytest.raises(BadRequest, match=r"there is no profile for a .* \(--security-opt seccomp=unconfined\)"):
        seccomp.profile("", DOCKERS)
