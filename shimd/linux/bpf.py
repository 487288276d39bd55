"""BPF programs of type CGROUP_DEVICE: assembled here, loaded and attached by bpf(2).

Cgroup v2 has no files for device rules. Instead a program that is attached to a cgroup is asked at every open and mknod
of a device node by a process in it or below it (Documentation/admin-guide/cgroup-v2.rst, "Device controller"). It is
given `struct bpf_cgroup_dev_ctx`: u32 access << 16 | type, u32 major, u32 minor; what it returns is 1 for yes, 0 for
EPERM.

Programs are attached with BPF_F_ALLOW_MULTI: those of the cgroups above are asked as well, and all must say yes. So a
container can never have more than its parent allows, as on v1. The cgroup holds its program: it goes when that goes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from shimd.linux.libc import INT, POINTER, UINT, check, syscall

PROG_LOAD, PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
CGROUP_DEVICE_TYPE = 15  # BPF_PROG_TYPE_CGROUP_DEVICE
CGROUP_DEVICE = 6  # the attach type
ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64  # BPF_CGROUP_MAX_PROGS
_TRIES = 30
NAME = b"asyncrt_devices"  # as bpftool shows it: 15 bytes at most
LICENSE = b"Apache-2.0\0"  # calls no helper that asks for the GPL
_license = ctypes.create_string_buffer(LICENSE)

MKNOD, READ, WRITE = 1, 2, 4  # BPF_DEVCG_ACC_*
BLOCK, CHARACTER = 1, 2  # BPF_DEVCG_DEV_*

_bpf = syscall("bpf", INT, POINTER, UINT)

# Registers of the program: what is asked about, in the order in which a rule looks at it.
_ANSWER, _CONTEXT, _TYPE, _ACCESS, _MAJOR, _MINOR = range(6)
_LOAD_WORD, _MOVE, _COPY, _SHIFT_RIGHT, _AND, _EXIT = 0x61, 0xB7, 0xBF, 0x77, 0x57, 0x95
_JUMP, _JUMP_SET, _JUMP_NOT_EQUAL = 0x05, 0x45, 0x55
_EVERY_ACCESS = MKNOD | READ | WRITE


def _word(code: int, to: int, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    """One instruction (Documentation/bpf/standardization/instruction-set.rst)."""
    return struct.pack("=BBhi", code, source << 4 | to, offset, number)


LENGTH = len(_word(_EXIT, 0))


def _leave(answer: int) -> bytes:
    return _word(_MOVE, _ANSWER, number=answer) + _word(_EXIT, 0)


def begin() -> bytes:
    """Take the question apart: every program starts with it."""
    return b"".join(
        (
            _word(_LOAD_WORD, _TYPE, _CONTEXT, 0),
            _word(_COPY, _ACCESS, _TYPE),
            _word(_SHIFT_RIGHT, _ACCESS, number=16),
            _word(_AND, _TYPE, number=0xFFFF),
            _word(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
            _word(_LOAD_WORD, _MINOR, _CONTEXT, 8),
        )
    )


def rule(allow: bool, kind: int, major: int, minor: int, access: int) -> bytes:
    """One rule; the rules after it are asked about what it leaves open. -1 is any type or number.

    Denied is denied at once; what is allowed is taken out of the question, and when nothing is left of it the
    answer is yes. So `rw` may be allowed by two rules, one for `r` and one for `w`, as v1 has it.
    """
    if allow:
        rest = _word(_AND, _ACCESS, number=_EVERY_ACCESS & ~access)
        deed = rest + _word(_JUMP_NOT_EQUAL, _ACCESS, offset=2) + _leave(1)
    else:
        deed = _word(_JUMP_SET, _ACCESS, offset=1, number=access)
        deed += _word(_JUMP, 0, offset=2) + _leave(0)
    tests = [(_TYPE, kind), (_MAJOR, major), (_MINOR, minor)]
    asked = [(register, number) for register, number in tests if number >= 0]
    words = []
    for place, (register, number) in enumerate(asked):
        behind = len(asked) - place - 1 + len(deed) // LENGTH
        words.append(_word(_JUMP_NOT_EQUAL, register, offset=behind, number=number))
    return b"".join(words) + deed


def end(allow: bool) -> bytes:
    """The answer to what no rule has decided."""
    return _leave(1 if allow else 0)


def load(program: bytes) -> int:
    """Load a device program (bpf(2), BPF_PROG_LOAD); its fd, close-on-exec.

    EPERM without CAP_BPF and CAP_NET_ADMIN (or CAP_SYS_ADMIN), and before Linux 5.11 also where RLIMIT_MEMLOCK has
    no room for it; EINVAL or ENOSYS where the kernel has no CONFIG_CGROUP_BPF.
    """
    text = ctypes.create_string_buffer(program, len(program))
    count = len(program) // LENGTH
    addresses = ctypes.addressof(text), ctypes.addressof(_license)
    attributes = struct.pack("=IIQQIIQII16s", CGROUP_DEVICE_TYPE, count, *addresses, 0, 0, 0, 0, 0, NAME)
    for attempt in range(_TRIES):  # the verifier can be interrupted by a signal
        try:
            return _call(PROG_LOAD, attributes)
        except BlockingIOError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("the last try returns or raises")


def attach(cgroup: int, program: int, instead_of: int = -1) -> None:
    """Attach to the cgroup of the directory fd `cgroup`; in one step with `instead_of` gone (Linux 5.6)."""
    flags = ALLOW_MULTI | (_REPLACE if instead_of >= 0 else 0)
    _call(PROG_ATTACH, struct.pack("=IIIII", cgroup, program, CGROUP_DEVICE, flags, max(instead_of, 0)))


def detach(cgroup: int, program: int) -> None:
    """Take a program off its cgroup."""
    _call(_PROG_DETACH, struct.pack("=III", cgroup, program, CGROUP_DEVICE))


def attached(cgroup: int) -> list[int]:
    """The ids of the device programs of a cgroup itself, not of those above."""
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    # All fields up to `revision`: Linux 6.17 to 7.1 write that one whatever size they were told.
    head = struct.pack("=IIIIQII", cgroup, CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS, 0)
    buffer = ctypes.create_string_buffer(head.ljust(64, b"\0"), 64)
    check(_bpf(_PROG_QUERY, ctypes.byref(buffer), len(buffer)), "device programs")
    (count,) = struct.unpack_from("=I", buffer, 24)
    return list(ids[:count])


def by_id(number: int) -> int:
    """The fd of a loaded program."""
    return _call(_PROG_GET_FD_BY_ID, struct.pack("=I", number))


def install(cgroup: int, program: bytes) -> None:
    """Have this program, and no other, on the cgroup of the directory fd `cgroup`; others stay until it is there."""
    old = attached(cgroup)
    fds: list[int] = []
    try:
        fds += [by_id(number) for number in old]
        new = load(program)
        try:
            if len(fds) == 1:
                attach(cgroup, new, fds[0])
                return
            attach(cgroup, new)
        finally:
            os.close(new)
        for fd in fds:
            detach(cgroup, fd)
    finally:
        for fd in fds:
            os.close(fd)


def _call(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    try:
        return check(_bpf(command, ctypes.byref(buffer), len(attributes)), "device program")
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise OSError(errno.ENOSYS, "this kernel has no bpf(2)", "device program") from None
        raise
