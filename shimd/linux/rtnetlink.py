"""Links of a network namespace by rtnetlink(7): move one elsewhere, its addresses, set it up.

Three requests by hand: a netlink library would be the heaviest thing in a shim. A socket speaks for the namespace in
which it was made.
"""

from __future__ import annotations

import os
import struct
from _socket import AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW, if_nameindex, socket
from collections.abc import Iterator
from typing import NamedTuple

NETLINK_ROUTE = 0
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_CREATE, NLM_F_EXCL = 0x400, 0x200
RTM_NEWLINK, RTM_NEWADDR, RTM_GETADDR = 16, 20, 22
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_FLAGS, IFA_CACHEINFO = 8, 6
IFF_UP = 1
IFA_F_PERMANENT = 0x80
RT_SCOPE_UNIVERSE = 0
BUFFER = 1 << 17
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg


class Address(NamedTuple):
    """family, prefix length, and the attributes as the kernel told them."""

    family: int
    prefix: int
    attributes: bytes


def links() -> dict[int, str]:
    """Index to name, of the calling process's namespace."""
    return dict(if_nameindex())


def move_link(index: int, namespace: int, name: str) -> None:
    """Into the namespace of an fd, under `name` (a `%d` is numbered by the kernel). EEXIST: the name is taken."""
    attributes = _attribute(IFLA_NET_NS_FD, struct.pack("=I", namespace))
    attributes += _attribute(IFLA_IFNAME, name.encode() + b"\0")
    _ask(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attributes, name)


def set_up(index: int) -> None:
    """ip link set ... up."""
    _ask(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP), f"link {index}")


def lasting_addresses(index: int) -> list[Address]:
    """The permanent addresses of global scope: the ones that a move must not lose (config-linux.md)."""
    found = []
    for kind, body in _ask(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0), f"addresses of link {index}"):
        family, prefix, flags, scope, owner = _ADDRESS.unpack_from(body)
        if kind != RTM_NEWADDR or owner != index or scope != RT_SCOPE_UNIVERSE:
            continue
        attributes = dict(_attributes(body[_ADDRESS.size :]))
        if IFA_FLAGS in attributes:
            flags = struct.unpack("=I", attributes[IFA_FLAGS])[0]
        if flags & IFA_F_PERMANENT:
            kept = b"".join(_attribute(kind, value) for kind, value in attributes.items() if kind != IFA_CACHEINFO)
            found.append(Address(family, prefix, kept))
    return found


def add_address(index: int, address: Address) -> None:
    """Give a link an address that another had."""
    body = _ADDRESS.pack(address.family, address.prefix, IFA_F_PERMANENT, RT_SCOPE_UNIVERSE, index)
    _ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body + address.attributes, f"address of link {index}")


def _attribute(kind: int, value: bytes) -> bytes:
    """struct rtattr with its padding."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:size]
        data = data[max(4, size + 3 & ~3) :]


def _ask(kind: int, flags: int, body: bytes, subject: str) -> list[tuple[int, bytes]]:
    """One request; the messages that answer it, as (type, body). OSError with the kernel's errno."""
    dump = flags & NLM_F_DUMP == NLM_F_DUMP
    wanted = NLM_F_REQUEST | flags | (0 if dump else NLM_F_ACK)
    answers: list[tuple[int, bytes]] = []
    line = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        line.bind((0, 0))
        line.send(_HEADER.pack(_HEADER.size + len(body), kind, wanted, 1, 0) + body)
        while True:
            for type, data in _messages(line.recv(BUFFER)):
                if type == NLMSG_DONE:
                    return answers
                if type == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data)[0]
                    if number:
                        raise OSError(number, os.strerror(number), subject)
                    return answers
                answers.append((type, data))
    finally:
        line.close()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        size, kind, _, _, _ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : size]
        data = data[max(_HEADER.size, size + 3 & ~3) :]
