"""A machine for seccomp's BPF, as slow and as plain as can be: what a test asks about a filter, it runs."""

import struct
from collections.abc import Sequence

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32_BIT = 0x40000000
ALLOW, KILL_THREAD, LOG, NOTIFY, TRAP = 0x7FFF0000, 0, 0x7FFC0000, 0x7FC00000, 0x30000


def errno(number: int) -> int:
    """What a filter returns for SCMP_ACT_ERRNO."""
    return 0x50000 | number


def verdict(program: bytes, number: int, arguments: Sequence[int] = (), architecture: int = X86_64) -> int:
    """What the filter returns for a call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=iIQ6Q", number - (1 << 32) if number >> 31 else number, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = place = 0
    while True:
        code, jt, jf, k = instructions[place]
        place += 1
        if code == 0x06:  # ret
            return int(k)
        if code == 0x20:  # ld [k]
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x54:  # and
            accumulator &= k
        elif code == 0x05:  # ja
            place += k
        else:
            true = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            place += jt if true[code] else jf
