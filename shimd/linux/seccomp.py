"""System-call filters: libseccomp as their compiler (seccomp(3)), seccomp(2) to load them.

The library is loaded when the first filter is compiled, by whoever compiles plans; a process that loads a filter has
the finished program and needs no library. Names of actions, operators and architectures are libseccomp's.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

from shimd.linux.libc import POINTER, UINT, check, syscall

PROCESS_KILLED = 0x80000000
ERRNO = 0x00050000
TRACE = 0x7FF00000
# Return values of a filter (seccomp(2)); those in WITH_DATA carry 16 bits of their own.
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,  # the older name of the next
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": PROCESS_KILLED,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
WITH_DATA = (ERRNO, TRACE)
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
NEW_LISTENER = 8
TSYNC = 1

X32_BIT = 0x40000000
# Whose numbers do not begin at 0.
FIRST_NUMBERS = {
    "SCMP_ARCH_X32": X32_BIT,
    **{f"SCMP_ARCH_{name}": 4000 for name in ("MIPS", "MIPSEL")},
    **{f"SCMP_ARCH_{name}": 5000 for name in ("MIPS64", "MIPSEL64")},
    **{f"SCMP_ARCH_{name}": 6000 for name in ("MIPS64N32", "MIPSEL64N32")},
}
_MACHINES = {
    "x86_64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64",
    "riscv64": "SCMP_ARCH_RISCV64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
    "loongarch64": "SCMP_ARCH_LOONGARCH64",
}
# Calls that are younger than a distribution's libseccomp (2.5.4 ends with Linux 5.17). Since Linux 5.1 a new call
# gets one number on all architectures, counted from where each begins.
YOUNG_CALLS = {
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
}

SET_MODE_FILTER = 1
_OPTIMIZE, _BINARY_TREE = 8, 2  # SCMP_FLTATR_CTL_OPTIMIZE
_UNKNOWN = -1  # __NR_SCMP_ERROR

_seccomp = syscall("seccomp", UINT, UINT, POINTER)


class Unavailable(Exception):
    """libseccomp is not installed."""


class Argument(NamedTuple):
    """One comparison of a call's argument `place`; for SCMP_CMP_MASKED_EQ `first` is the mask."""

    place: int
    operator: str
    first: int
    second: int


class Rule(NamedTuple):
    """What a filter returns for `call` when all comparisons hold."""

    call: str
    returns: int
    arguments: tuple[Argument, ...]


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def native_architecture() -> str:
    """libseccomp's name of this machine's own. KeyError for a machine that is not in the table."""
    return _MACHINES[platform.machine()]


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise Unavailable(str(error)) from None
    context = ctypes.c_void_p
    for name, result, arguments in (
        ("seccomp_init", context, (ctypes.c_uint32,)),
        ("seccomp_release", None, (context,)),
        ("seccomp_arch_resolve_name", ctypes.c_uint32, (ctypes.c_char_p,)),
        ("seccomp_arch_add", ctypes.c_int, (context, ctypes.c_uint32)),
        ("seccomp_attr_set", ctypes.c_int, (context, ctypes.c_int, ctypes.c_uint32)),
        ("seccomp_syscall_resolve_name", ctypes.c_int, (ctypes.c_char_p,)),
        ("seccomp_syscall_resolve_name_arch", ctypes.c_int, (ctypes.c_uint32, ctypes.c_char_p)),
        (
            "seccomp_rule_add_array",
            ctypes.c_int,
            (context, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison)),
        ),
        ("seccomp_export_bpf", ctypes.c_int, (context, ctypes.c_int)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def resolve(call: str) -> int:
    """A number by which libseccomp knows a call (negative: one of another architecture); -1 if it does not."""
    found: int = _library().seccomp_syscall_resolve_name(call.encode())
    return found


def resolve_on(architecture: str, call: str) -> int:
    """The call's number on an architecture; negative if it has none there."""
    library = _library()
    found: int = library.seccomp_syscall_resolve_name_arch(_token(architecture), call.encode())
    if found == _UNKNOWN and call in YOUNG_CALLS:
        found = FIRST_NUMBERS.get(architecture, 0) + YOUNG_CALLS[call]
    return found


def audit_value(architecture: str) -> int:
    """AUDIT_ARCH_* (linux/audit.h), as a filter meets it. x32 is x86_64 with a bit of its own in the numbers."""
    return _token("SCMP_ARCH_X86_64" if architecture == "SCMP_ARCH_X32" else architecture)


def _token(architecture: str) -> int:
    """libseccomp's number of an architecture; OSError where this libseccomp has none."""
    name = architecture.removeprefix("SCMP_ARCH_").lower()
    token: int = _library().seccomp_arch_resolve_name(name.encode())
    if not token:
        raise OSError(errno.EINVAL, f"this libseccomp does not know {architecture}", architecture)
    return token


def compile_filter(default: int, architectures: Sequence[str], rules: Sequence[Rule]) -> bytes:
    """The BPF program, as struct sock_filter[].

    `default` is for calls without a rule; the machine's own architecture is always listed, and a call by way of one
    that is not kills the thread. A rule that says what the default says must be left out, and a call must be known to
    libseccomp. Raises Unavailable, and OSError with the rule that was refused.
    """
    library = _library()
    context = library.seccomp_init(default)
    if not context:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), f"default action {default:#x}")
    try:
        # A binary tree: faster to analyse (filters.decide). Before libseccomp 2.5 it is a list, and as good.
        library.seccomp_attr_set(context, _OPTIMIZE, _BINARY_TREE)
        for architecture in architectures:
            result = library.seccomp_arch_add(context, _token(architecture))
            if result != -errno.EEXIST:
                _judge(result, architecture)
        for rule in rules:
            comparisons = (_Comparison * len(rule.arguments))(
                *(_Comparison(one.place, OPERATORS[one.operator], one.first, one.second) for one in rule.arguments)
            )
            number = resolve(rule.call)
            result = library.seccomp_rule_add_array(context, rule.returns, number, len(comparisons), comparisons)
            if result != -errno.EEXIST:  # said twice
                _judge(result, rule.call)
        fd = os.memfd_create("filter", os.MFD_CLOEXEC)
        try:
            _judge(library.seccomp_export_bpf(context, fd), "the program")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
    finally:
        library.seccomp_release(context)


def _judge(result: int, subject: str) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result), subject)


@functools.cache
def program_of(program: bytes) -> ctypes.Structure:
    """struct sock_fprog for load(): made where the plan is compiled, so that it is at hand after fork."""
    return _Program(len(program) // 8, program)


def load(program: bytes, flags: int) -> int:
    """seccomp(2), SECCOMPSET_MODE_FILTER for the calling thread; with NEW_LISTENER the listener's fd.

    EACCES: neither no_new_privs nor CAP_SYS_ADMIN.
    """
    return check(_seccomp(SET_MODE_FILTER, flags, ctypes.byref(program_of(program))), "seccomp filter")
