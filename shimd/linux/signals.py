"""Signals: masks, dispositions, signalfd(2).

By libc and not through Python's signal module where the kernel's disposition is meant: Python would install its own
handler, and an ignored signal stays ignored across exec.
"""

from __future__ import annotations

import ctypes
import os
import struct
from _signal import strsignal  # type: ignore[import-not-found] # `signal` itself brings enum along
from collections.abc import Iterable

from shimd.linux.libc import INT, POINTER, check, function

SIG_BLOCK = 0
SIG_SETMASK = 2
SIG_DFL = 0
SIG_IGN = 1
SFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
LAST_SIGNAL = 64
UNCATCHABLE = (9, 19)
SIGNALFD_RECORD = 128  # bytes of struct signalfd_siginfo

_sigprocmask = function("sigprocmask", INT, POINTER, POINTER)
_signalfd = function("signalfd", INT, POINTER, INT)
_signal = function("signal", INT, POINTER)


def _set_of(signals: Iterable[int]) -> ctypes.Array[ctypes.c_char]:
    """A glibc sigset_t: 1024 bits."""
    bits = 0
    for number in signals:
        bits |= 1 << (number - 1)
    return ctypes.create_string_buffer(struct.pack("<Q", bits) + bytes(120), 128)


_EMPTY = _set_of(())


def block(signals: Iterable[int]) -> None:
    """Add signals to the mask of blocked ones."""
    check(_sigprocmask(SIG_BLOCK, _set_of(signals), None))


def unblock_all() -> None:
    """Block nothing: a mask survives exec, and a program expects an empty one."""
    check(_sigprocmask(SIG_SETMASK, _EMPTY, None))


def signalfd(signals: Iterable[int]) -> int:
    """signalfd(2), non-blocking: a readable fd while one of the (blocked) signals is pending."""
    return check(_signalfd(-1, _set_of(signals), SFD_NONBLOCK_CLOEXEC))


def default(number: int) -> None:
    """Give a signal its default disposition in the kernel."""
    _signal(number, SIG_DFL)


def ignore(number: int) -> None:
    """Ignore a signal in the kernel."""
    _signal(number, SIG_IGN)


def words(number: int) -> str:
    """What a signal says, as in "bad system call" (strsignal(3))."""
    return (strsignal(number) or "unknown").lower()


def default_all() -> None:
    """Every signal back to its default: an ignored one (Python ignores SIGPIPE) would stay so across exec."""
    for number in range(1, LAST_SIGNAL + 1):
        if number not in UNCATCHABLE and not 32 <= number <= 33:  # 32 and 33 belong to glibc
            _signal(number, SIG_DFL)
