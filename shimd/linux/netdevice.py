"""The loopback link of a network namespace (netdevice(7))."""

from __future__ import annotations

import fcntl
import socket
import struct

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
_REQUEST = struct.pack("16sh22x", b"lo", IFF_UP)


def loopback_up() -> None:
    """Set lo up in the calling process's network namespace; the kernel gives it 127.0.0.1 and ::1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket.fileno(), SIOCSIFFLAGS, _REQUEST)
