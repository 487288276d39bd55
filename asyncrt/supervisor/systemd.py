"""The systemd driver: where systemd owns the tree, it is asked for a place, once per supervisor.

systemd lets others make cgroups below a unit that was declared delegated (its "Control Group APIs and Delegation"). So
one transient scope with Delegate= is all that is asked for: what runs in it, and below which limits, is written to
cgroup files as without systemd, and no start waits for D-Bus (runc asks for a scope per container, and a hundred at
once make it time out: opencontainers/runc#3904).

    asyncrt-HASH.scope/             made by systemd, with the supervisor and its zygote
    asyncrt-HASH.scope/supervisor   where those two are: an inner cgroup has no processes (v2's leaf rule)
    asyncrt-HASH.scope/containers   the parent of all containers

The scope lives as long as a process is in it: a supervisor that was killed leaves it to its containers, and the next
one finds it by its name.

jeepney is imported here alone, and only where this driver was chosen.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asyncrt.errors import StorageFailed
from asyncrt.supervisor.cgroups import Cgroups, refused
from shimd.linux import cgroups

if TYPE_CHECKING:
    from jeepney import DBusAddress, Message
    from jeepney.io.blocking import DBusConnection

SECONDS = 10.0  # for each answer, and for the scope to stand
SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
NAME, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
_EXISTS = f"{NAME}.UnitExists"
_SUBJECT = "systemd's cgroup driver"


class Scope(Cgroups):
    """As Cgroups; `parent` is known once open() has asked systemd for it.

    `slice` is where the scope shall be (system.slice unless told), `pids` who lives in it beside the containers.
    """

    def __init__(self, unit: str, pids: Sequence[int], slice: str = "", address: str = "") -> None:
        super().__init__("")
        self.unit = unit
        self._pids = list(pids)
        self._slice = slice
        self._address = address or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", SYSTEM_BUS)

    def open(self) -> None:
        """As Cgroups.open(). StorageFailed: no jeepney, no systemd, or it refuses."""
        scope = self._ask()
        leaf = f"{scope}/supervisor"
        try:
            for tree in self.hierarchies:
                if tree.version == 2:
                    self._settle(tree.mount, scope, leaf)
        except OSError as error:
            raise refused("use scope", error.filename or scope, error) from error
        self.parent = f"{scope}/containers"
        super().open()

    def _settle(self, mount: str, scope: str, leaf: str) -> None:
        """v2: everybody in the scope moves into a leaf of it, so that it can hand on its controllers."""
        os.makedirs(mount + leaf, 0o755, exist_ok=True)
        for pid in (*cgroups.processes(mount + scope), *self._pids):
            try:
                cgroups.write(mount + leaf, "cgroup.procs", str(pid))
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise

    def _ask(self) -> str:
        """The cgroup of our scope, which stands then."""
        try:
            from jeepney.io.blocking import open_dbus_connection
        except ImportError as error:
            hint = "pip install asyncrt[systemd], or use the cgroupfs driver"
            raise StorageFailed("use", _SUBJECT, "the package jeepney is not installed", hint) from error
        try:
            bus = open_dbus_connection(self._address)
        except (OSError, ValueError, RuntimeError) as error:
            cause = (getattr(error, "strerror", "") or str(error)).lower()
            hint = "is systemd this machine's init? the cgroupfs driver needs none"
            raise StorageFailed("reach systemd by", self._address, cause, hint) from error
        with bus:
            return self._scope(bus)

    def _scope(self, bus: DBusConnection) -> str:
        from jeepney import DBusAddress

        manager = DBusAddress(PATH, NAME, MANAGER)
        properties: list[tuple[str, tuple[str, Any]]] = [
            ("Description", ("s", "containers of asyncrt")),
            ("Delegate", ("b", True)),
            ("PIDs", ("au", self._pids)),
            ("CollectMode", ("s", "inactive-or-failed")),  # a failed one would hold its name
        ]
        if self._slice:
            properties.append(("Slice", ("s", self._slice)))
        words: tuple[Any, ...] = (self.unit, "fail", properties, [])
        self._call(bus, manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", words, _EXISTS)
        deadline = time.monotonic() + SECONDS
        while True:  # the job is done at once as a rule; its signal would need a subscription and a match
            (unit,) = self._call(bus, manager, "GetUnit", "s", (self.unit,))
            properties_of = DBusAddress(unit, NAME, "org.freedesktop.DBus.Properties")
            told = self._call(bus, properties_of, "Get", "ss", (f"{NAME}.Scope", "ControlGroup"))
            path = str(told[0][1])
            if path and any(os.path.isdir(tree.mount + path) for tree in self.hierarchies):
                return path
            if time.monotonic() > deadline:
                raise StorageFailed("start", self.unit, f"it has no cgroup after {SECONDS:.0f} s")
            time.sleep(0.02)

    def _call(
        self, bus: DBusConnection, to: DBusAddress, method: str, form: str, words: tuple[Any, ...], fine: str = ""
    ) -> tuple[Any, ...]:
        """The answer's body. StorageFailed for an error of systemd's, but for the one of the name `fine`."""
        from jeepney import HeaderFields, MessageType, new_method_call

        try:
            answer: Message = bus.send_and_get_reply(new_method_call(to, method, form, words), timeout=SECONDS)
        except (OSError, TimeoutError) as error:
            raise StorageFailed(
                "ask systemd for", self.unit, f"{method}: {str(error) or 'no answer'}".lower()
            ) from error
        if answer.header.message_type is MessageType.error:
            name = str(answer.header.fields.get(HeaderFields.error_name, ""))
            if name == fine:
                return ()
            words_of = str(answer.body[0]) if answer.body else name
            raise StorageFailed("ask systemd for", self.unit, words_of, f"{method}: {name}")
        body: tuple[Any, ...] = answer.body
        return body
