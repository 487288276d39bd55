"""Where a redirect may lead: from the machine that redirects, to what its target's name stands for.

A registry names other places for us to ask: a redirect, an upload's Location, a token server. Who is outside must
not make us ask what only we can reach: our own services, the neighbours on our network, a cloud's metadata service
with this machine's credentials (CVE-2020-15157's cousins; the addresses are those of RFC 6890 and of the clouds'
documentation).

    from \\ to    public   private   loopback
    public         yes       no        no
    private        yes       yes       no
    loopback       yes       yes       yes       our own registry, a mirror or a test

Never: link-local, metadata services, multicast, and what is no address of a machine.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(IntEnum):
    """How far away an address is; the nearer may lead to the farther."""

    NEVER = 0
    PUBLIC = 1
    PRIVATE = 2
    LOOPBACK = 3


_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHARED = ipaddress.ip_network(
    "100.64.0.0/10"
)  # carriers' NAT (RFC 6598): ipaddress calls it neither public nor private


def reach(text: str) -> Reach:
    """How far away the address is that `text` writes; NEVER if that is no address, or one to keep away from."""
    try:
        address = _plain(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return Reach.NEVER
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return Reach.NEVER
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_private or (address.version == 4 and address in _SHARED):
        return Reach.PRIVATE
    return Reach.NEVER if address.is_reserved else Reach.PUBLIC


def may_lead(source: Reach, target: Reach) -> bool:
    """Whether a machine at `source` may send us to one at `target`."""
    return Reach.NEVER < target <= max(source, Reach.PUBLIC)


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one wraps, if it does: mapped, 6to4, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
