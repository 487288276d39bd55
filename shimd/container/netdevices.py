"""linux.netDevices: links of the machine that move into the container's network namespace (config-linux.md 1.3).

    shim or command                        init
      | OfferDevices: a thread waits         |
      | <----- device i, my namespace ------ | TakeDevices, in the new namespace
      |  moves it, under its new name        |
      | ----- its lasting addresses -------> |
      |                                      |  gives them back to it, sets it up

The thread is the machine's: in a user namespace init may not touch the machine's links, and the mover must be allowed
to in both. The kernel takes a physical link back when the namespace ends, and removes a virtual one.
"""

from __future__ import annotations

import _thread
import errno
import os
from _socket import SCM_RIGHTS, SOL_SOCKET, if_nametoindex, socket
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from shimd.container.making import Making
from shimd.linux import rtnetlink
from shimd.spec.config import Linux
from shimd.wire import channel

# The ends of the conversation that init takes, by container: a process makes one start at most.
_offers: dict[str, socket] = {}


class OfferDevices(NamedTuple):
    """(name on the machine, name inside) of each device."""

    devices: tuple[tuple[str, str], ...]

    def describe(self) -> tuple[str, str]:
        return "offer network devices", ", ".join(outside for outside, _ in self.devices)

    def execute(self, making: Making) -> None:
        for outside, _ in self.devices:
            if_nametoindex(outside)  # ENODEV now, and not in the middle
        ours, _offers[making.id] = channel.pair()
        waiting = _thread.allocate_lock()
        waiting.acquire()
        _thread.start_new_thread(_serve, (ours, self.devices, waiting))
        waiting.acquire()  # it is past all that allocates: init is cloned beside it

    def undo(self, making: Making) -> None:
        """The kernel's: see above."""


def _serve(line: socket, devices: Sequence[tuple[str, str]], waiting: _thread.LockType) -> None:
    for outside, inside in devices:
        if waiting.locked():
            waiting.release()
        _, ancillary, _, _ = line.recvmsg(16, channel.ANCILLARY)
        fds = channel.fds_of(ancillary)
        if not fds:
            return
        try:
            index = if_nametoindex(outside)
            addresses = rtnetlink.lasting_addresses(index)
            rtnetlink.move_link(index, fds[0], inside)
            answer: tuple[object, ...] = (0, "", addresses)
        except OSError as error:
            answer = (error.errno or 5, error.strerror or str(error), [])
        finally:
            channel.close_all(fds)
        line.send(msgpack.packb(answer))


class TakeDevices(NamedTuple):
    """init: have them moved here, one after the other."""

    devices: tuple[tuple[str, str], ...]

    def describe(self) -> tuple[str, str]:
        return "take network devices", ", ".join(f"{outside} as {inside}" for outside, inside in self.devices)

    def execute(self, making: Making) -> None:
        line = _offers.pop(making.id)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for outside, inside in self.devices:
                self._take(outside, inside, line, namespace)
        finally:
            os.close(namespace)
            line.close()

    def _take(self, outside: str, inside: str, line: socket, namespace: int) -> None:
        before = rtnetlink.links()
        if inside in before.values():
            # Asked before: the kernel would move it first and then find the name taken (do_setlink()), and it would end
            # with this namespace.
            raise OSError(errno.EEXIST, f"{outside}: the name {inside} is taken")
        line.sendmsg([b"."], [(SOL_SOCKET, SCM_RIGHTS, namespace.to_bytes(4, "little"))])
        number, text, addresses = msgpack.unpackb(line.recv(1 << 16))
        if number:
            raise OSError(number, f"{outside}: {text}")
        for index in rtnetlink.links().keys() - before.keys():
            for address in addresses:
                rtnetlink.add_address(index, rtnetlink.Address(*address))
            rtnetlink.set_up(index)


def wishes(linux: Linux) -> tuple[tuple[str, str], ...]:
    """(name on the machine, name inside) of each, in the config's order."""
    return tuple((outside, device.name or outside) for outside, device in linux.net_devices.items())
