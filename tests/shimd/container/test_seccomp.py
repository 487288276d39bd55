"""linux.seccomp to a program: what it returns for which call."""

import errno as errnos
from typing import Any

import pytest

from shimd.container import seccomp
from shimd.container.plan import Plan, compile_plan
from shimd.errors import RuntimeTrouble
from shimd.linux import seccomp as kernel
from shimd.spec.validate import load
from tests.shimd.configs import config
from tests.shimd.filter_machine import ALLOW, I386, KILL_THREAD, LOG, NOTIFY, TRAP, X32_BIT, X86_64, errno, verdict

try:
    kernel.resolve("read")
except kernel.Unavailable as missing:
    pytest.skip(f"no libseccomp: {missing}", allow_module_level=True)


def plan_of(wish: dict[str, Any], **process: Any) -> Plan:
    return compile_plan(load(config("true", process=process, linux={"seccomp": wish})), [], stdin=False)


def program_of(wish: dict[str, Any]) -> bytes:
    found = plan_of(wish).filter.load
    assert found is not None
    return found.program


def number(call: str, architecture: str = "SCMP_ARCH_X86_64") -> int:
    return kernel.resolve_on(architecture, call)


native = pytest.mark.skipif(kernel.native_architecture() != "SCMP_ARCH_X86_64", reason="the numbers are x86_64's")


@native
@pytest.mark.parametrize(
    ("action", "extra", "returned"),
    [
        ("SCMP_ACT_KILL", {}, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", {}, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", {}, 0x80000000),
        ("SCMP_ACT_TRAP", {}, TRAP),
        ("SCMP_ACT_ERRNO", {}, errno(errnos.EPERM)),
        ("SCMP_ACT_ERRNO", {"errnoRet": 38}, errno(38)),
        ("SCMP_ACT_ERRNO", {"errnoRet": 0}, errno(0)),
        ("SCMP_ACT_TRACE", {}, 0x7FF00000 | errnos.EPERM),
        ("SCMP_ACT_TRACE", {"errnoRet": 7}, 0x7FF00007),
        ("SCMP_ACT_LOG", {}, LOG),
        ("SCMP_ACT_NOTIFY", {}, NOTIFY),
    ],
)
def test_actions(action: str, extra: dict[str, Any], returned: int) -> None:
    rule = {"names": ["mkdir"], "action": action, **extra}
    program = program_of({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [rule]})
    assert verdict(program, number("mkdir")) == returned
    assert verdict(program, number("rmdir")) == ALLOW


@native
@pytest.mark.parametrize(
    ("op", "value", "two", "matching", "other"),
    [
        ("SCMP_CMP_NE", 5, 0, [4, 6, 1 << 32 | 5], [5]),
        ("SCMP_CMP_LT", 5, 0, [0, 4], [5, 6, 1 << 40]),
        ("SCMP_CMP_LE", 5, 0, [0, 5], [6, 1 << 40]),
        ("SCMP_CMP_EQ", 1 << 33, 0, [1 << 33], [0, 1, 1 << 34]),
        ("SCMP_CMP_GE", 5, 0, [5, 1 << 40], [4]),
        ("SCMP_CMP_GT", 5, 0, [6, 1 << 40], [5, 0]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x30, [0x30, 0x3F, 0xF30], [0x20, 0xF0]),
    ],
)
def test_operators(op: str, value: int, two: int, matching: list[int], other: list[int]) -> None:
    arg = {"index": 1, "value": value, "valueTwo": two, "op": op}
    rule = {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [arg]}
    program = program_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    for argument in matching:
        assert verdict(program, number("ioctl"), (0, argument)) == errno(1), argument
    for argument in other:
        assert verdict(program, number("ioctl"), (0, argument)) == ALLOW, argument


@native
def test_all_arguments_or_any_of_the_same_one() -> None:
    """config-linux.md asks for all; libseccomp takes one comparison an argument, and runc and crun mean either."""

    def rule(*pairs: tuple[int, int]) -> dict[str, Any]:
        args = [{"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in pairs]
        return {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": args}

    both = program_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule((0, 16), (2, 9))]})
    assert verdict(both, number("socket"), (16, 0, 9)) == errno(1)
    assert verdict(both, number("socket"), (16, 0, 8)) == ALLOW
    either = program_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule((0, 16), (0, 17))]})
    assert [verdict(either, number("socket"), (family,)) for family in (16, 17, 18)] == [errno(1), errno(1), ALLOW]


@native
def test_architectures() -> None:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    alone = program_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert verdict(alone, number("mkdir"), architecture=I386) == KILL_THREAD
    assert verdict(alone, number("rmdir") | X32_BIT) == KILL_THREAD
    listed = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    all_ = program_of({"defaultAction": "SCMP_ACT_ALLOW", "architectures": listed, "syscalls": [rule]})
    assert verdict(all_, number("mkdir", "SCMP_ARCH_X86"), architecture=I386) == errno(1)
    assert verdict(all_, number("rmdir", "SCMP_ARCH_X86"), architecture=I386) == ALLOW
    assert verdict(all_, number("mkdir") | X32_BIT) == errno(1)
    assert verdict(all_, number("rmdir") | X32_BIT) == ALLOW


def test_an_architecture_of_other_endianness_is_refused() -> None:
    wish = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"]}
    with pytest.raises(RuntimeTrouble, match=r"compile \$\.linux\.seccomp: SCMP_ARCH_S390X: "):
        plan_of(wish)


@native
def test_newer_calls_seem_to_be_missing_under_a_restrictive_default() -> None:
    """A C library that is refused clone3 with EPERM gives up; with ENOSYS it tries clone."""
    rule = {"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"}
    strict = program_of({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    assert verdict(strict, number("read")) == ALLOW
    assert verdict(strict, number("mkdir")) == errno(1)
    assert verdict(strict, number("openat2") + 1) == errno(errnos.ENOSYS)
    killing = program_of({"defaultAction": "SCMP_ACT_KILL", "syscalls": [rule]})
    assert verdict(killing, number("mkdir")) == KILL_THREAD
    assert verdict(killing, number("openat2") + 1) == errno(errnos.ENOSYS)
    lax = program_of({"defaultAction": "SCMP_ACT_LOG", "syscalls": [rule]})
    assert verdict(lax, number("openat2") + 1) == LOG


@native
def test_calls_that_this_libseccomp_is_too_old_for() -> None:
    rule = {"names": ["read", "mseal", "no_such_call"], "action": "SCMP_ACT_ALLOW"}
    listed = ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    program = program_of({"defaultAction": "SCMP_ACT_ERRNO", "architectures": listed, "syscalls": [rule]})
    assert verdict(program, 462) == verdict(program, 462, architecture=I386) == verdict(program, 462 | X32_BIT) == ALLOW
    assert verdict(program, 461) == errno(1)
    assert verdict(program, 463) == errno(errnos.ENOSYS)


def test_a_call_that_nobody_knows_is_passed_over() -> None:
    """As by runc and crun: profiles name the calls of kernels to come."""
    rule = {"names": ["mkdri", "read"], "action": "SCMP_ACT_ERRNO"}
    program = program_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert verdict(program, 0) == errno(1)


def test_unless_an_annotation_refuses_it() -> None:
    rule = {"names": ["read", "mkdri"], "action": "SCMP_ACT_ALLOW"}
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
    document = config("true", linux={"seccomp": profile}, annotations={seccomp.STRICT: "1"})
    with pytest.raises(RuntimeTrouble, match="nobody here knows system call 'mkdri'"):
        compile_plan(load(document), [], stdin=False)


@native
def test_a_young_call_that_is_to_be_forbidden_by_its_arguments() -> None:
    """It exists, and a filter without the rule would let it go on."""
    argument = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    rule = {"names": ["mseal"], "action": "SCMP_ACT_ERRNO", "args": [argument]}
    with pytest.raises(RuntimeTrouble, match="this libseccomp knows no system call 'mseal'"):
        plan_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def test_flags() -> None:
    names = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"]
    flags = [f"SECCOMP_FILTER_FLAG_{name}" for name in names]
    found = plan_of({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags}).filter.load
    assert found is not None
    assert found.flags == 1 | 2 | 4 | 32


def test_where_the_filter_is_loaded() -> None:
    wish = {"defaultAction": "SCMP_ACT_ALLOW"}
    lines = [step.describe()[0] for step in plan_of(wish).process]
    assert lines[-4:] == ["load", "become", "set", "run"]
    confined = plan_of(wish, noNewPrivileges=True).process
    assert isinstance(confined[-1], seccomp.ConfinedExec)
    assert confined[-1].describe() == ("run", "true")
    assert not any(isinstance(step, seccomp.LoadSeccomp) for step in confined)


def test_a_profile_is_compiled_once() -> None:
    wish = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_TRAP"}]}
    seccomp.compiled.cache_clear()
    assert program_of(wish) is program_of({**wish, "flags": ["SECCOMP_FILTER_FLAG_LOG"]})
    assert seccomp.compiled.cache_info().misses == 1


def test_without_libseccomp_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> int:
        raise kernel.Unavailable("libseccomp.so.2: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(kernel, "resolve", missing)
    rule = {"names": ["acct"], "action": "SCMP_ACT_TRAP"}
    with pytest.raises(RuntimeTrouble, match=r"there is no libseccomp here: .* \(install libseccomp 2\.5 or later"):
        plan_of({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})


def test_x86_64_is_what_the_machine_says() -> None:
    assert kernel.audit_value("SCMP_ARCH_X86_64") == kernel.audit_value("SCMP_ARCH_X32") == X86_64
