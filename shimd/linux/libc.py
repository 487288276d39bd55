"""How a system call is made: prototypes bound once at import, errors as OSError.

PyDLL keeps the interpreter lock: these calls are short, the processes that use them have one thread, and a child
of clone3 must not meet a lock hand-over (ctypes' CDLL would drop and retake it around the call).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

_library = ctypes.PyDLL(None, use_errno=True)

INT = ctypes.c_int
UINT = ctypes.c_uint
LONG = ctypes.c_long
ULONG = ctypes.c_ulong
STRING = ctypes.c_char_p
POINTER = ctypes.c_void_p
SIZE = ctypes.c_size_t

# Only the calls that glibc does not wrap and whose number differs between machines; all since Linux 5.1 agree.
_OLD_NUMBERS = {
    "x86_64": {"pivot_root": 155, "capset": 126, "capget": 125, "keyctl": 250, "mknodat": 259, "bpf": 321}
    | {"seccomp": 317, "sched_setattr": 314, "ioprio_set": 251, "set_mempolicy": 238},
    "aarch64": {"pivot_root": 41, "capset": 91, "capget": 90, "keyctl": 219, "mknodat": 33, "bpf": 280}
    | {"seccomp": 277, "sched_setattr": 274, "ioprio_set": 30, "set_mempolicy": 237},
}
_NEW_NUMBERS = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_NUMBERS = _NEW_NUMBERS | _OLD_NUMBERS.get(os.uname().machine, {})


def function(name: str, *arguments: Any) -> Callable[..., int]:
    """A glibc function that returns -1 and sets errno."""
    found = getattr(_library, name)
    found.argtypes = arguments
    found.restype = INT
    call: Callable[..., int] = found
    return call


def syscall(name: str, *arguments: Any) -> Callable[..., int]:
    """A raw system call by name; called, it returns the result or -1 with errno set."""
    number = _NUMBERS.get(name)
    found = _library["syscall"]  # by item, not attribute: a fresh object with prototypes of its own
    found.argtypes = (LONG, *arguments)
    found.restype = LONG
    if number is None:

        def unsupported(*_: object) -> int:
            ctypes.set_errno(38)  # ENOSYS: said when it is called, not when asyncrt is imported
            return -1

        return unsupported

    def call(*values: Any) -> int:
        result: int = found(number, *values)
        return result

    return call


def check(result: int, subject: str = "") -> int:
    """The result, or OSError with the errno and what the call was about."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result
