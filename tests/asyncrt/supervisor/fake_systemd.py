"""As much of systemd's manager as asyncrt talks to, on a bus of its own.

    python -m tests.asyncrt.supervisor.fake_systemd ADDRESS SLICE [refuse]

It makes the cgroups of transient scopes as systemd does, in every hierarchy, and puts their first processes in. A line
`ready` on stdout once it has its name; `refuse` has it say no to all.
"""

import os
import sys
from typing import Any

from jeepney import HeaderFields, Message, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from asyncrt.supervisor.systemd import MANAGER, NAME, PATH
from shimd.linux import cgroups

TREES = cgroups.hierarchies()


class Manager:
    def __init__(self, slice: str, refuses: bool) -> None:
        self.slice = slice
        self.refuses = refuses
        self.units: dict[str, str] = {}

    def answer(self, call: Message) -> Message:
        fields = call.header.fields
        member = fields[HeaderFields.member]
        if fields.get(HeaderFields.interface) == MANAGER and member == "StartTransientUnit":
            return self.start(call, *call.body)
        if member == "GetUnit" and call.body[0] in self.units:
            return new_method_return(call, "o", (f"{PATH}/unit/{call.body[0].encode().hex()}",))
        if member == "Get":
            unit = bytes.fromhex(fields[HeaderFields.path].rpartition("/")[2]).decode()
            return new_method_return(call, "v", (("s", self.units[unit]),))
        return new_error(call, f"{NAME}.NoSuchUnit", "s", ("Unit not loaded.",))

    def start(self, call: Message, name: str, mode: str, properties: list[tuple[str, Any]], _: Any) -> Message:
        if self.refuses:
            return new_error(call, "org.freedesktop.DBus.Error.AccessDenied", "s", ("Permission denied",))
        wishes = {key: value for key, (_, value) in properties}
        assert mode == "fail"
        assert wishes["Delegate"] is True
        slice = wishes.get("Slice", self.slice)
        path = f"/{slice}/{name}"
        if name in self.units and any(os.path.isdir(tree.mount + path) for tree in TREES):
            return new_error(call, f"{NAME}.UnitExists", "s", (f"Unit {name} was already loaded.",))
        for tree in TREES:
            cgroups.make_parent(tree, f"/{slice}")
            os.makedirs(tree.mount + path, exist_ok=True)
            if tree.version == 1 and "cpuset" in tree.controllers:
                cgroups.inherit_cpuset(f"{tree.mount}/{slice}", tree.mount + path)
            for pid in wishes["PIDs"]:
                cgroups.write(tree.mount + path, "cgroup.procs", str(pid))
        self.units[name] = path
        return new_method_return(call, "o", (f"{PATH}/job/1",))


def main() -> None:
    address, slice, *more = sys.argv[1:]
    bus: DBusConnection = open_dbus_connection(address)
    bus.send_and_get_reply(message_bus.RequestName(NAME))
    manager = Manager(slice, "refuse" in more)
    print("ready", flush=True)
    while True:
        call = bus.receive()
        if call.header.message_type is MessageType.method_call:
            bus.send(manager.answer(call))


if __name__ == "__main__":
    main()
