"""The loopback link of a network namespace (netdevice(7))."""

from __future__ import annotations

import fcntl
import struct
from _socket import AF_INET, SOCK_DGRAM, socket

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
LOOPBACK_UP = struct.pack("16sh22x", b"lo", IFF_UP)
"""struct ifreq for SIOCSIFFLAGS."""


def loopback_up() -> None:
    """Set lo up in the calling process's network namespace; the kernel gives it 127.0.0.1 and ::1."""
    any_socket = socket(AF_INET, SOCK_DGRAM)
    try:
        fcntl.ioctl(any_socket.fileno(), SIOCSIFFLAGS, LOOPBACK_UP)
    finally:
        any_socket.close()
