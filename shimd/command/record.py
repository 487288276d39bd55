"""What is written about a container, in ROOT/ID/state.json; what the kernel can say is not."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSION = 1


class Record:
    """One container.

    `ready`: create came to its end; until then `pid` may be 0. `start` is when that process started, in ticks.
    `cgroup` is the path below each mount of `hierarchies`: [version, mount, controllers]. `kinds` and `child_kinds` are
    a plan's. `shared`: others lived in the cgroup before. `hooks` are those that are due after create, as documents.
    `created_ns` since 1970.
    """

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup",
        "child_kinds",
        "created_ns",
        "hierarchies",
        "hooks",
        "id",
        "kinds",
        "oci_version",
        "own_pids",
        "owner",
        "pid",
        "ready",
        "rootfs",
        "shared",
        "start",
        "version",
    )

    id: str
    oci_version: str
    pid: int
    ready: bool
    start: int
    bundle: str
    rootfs: str
    created_ns: int
    owner: int
    annotations: Mapping[str, str]
    cgroup: str
    hierarchies: list[tuple[int, str, list[str]]]
    kinds: int
    child_kinds: int
    own_pids: bool
    shared: bool
    hooks: Mapping[str, Any]

    def __init__(self, **values: Any) -> None:
        self.version = VERSION
        for name, value in values.items():
            setattr(self, name, value)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def state(self, status: str) -> dict[str, Any]:
        """runtime.md, "State": what hooks read, and callers with a few properties more."""
        state: dict[str, Any] = {"ociVersion": self.oci_version, "id": self.id, "status": status}
        if status != "stopped":
            state["pid"] = self.pid
        state["bundle"] = self.bundle
        if self.annotations:
            state["annotations"] = dict(self.annotations)
        return state

    def directories(self) -> list[tuple[int, str, list[str]]]:
        """(version, directory, controllers) of each of its cgroups."""
        return [(version, mount + self.cgroup, controllers) for version, mount, controllers in self.hierarchies]


def from_document(document: Mapping[str, Any]) -> Record:
    """The inverse of `document`. KeyError if it is of another version of asyncrt-oci."""
    if document["version"] != VERSION:
        raise KeyError("version")
    record = Record(**{name: document[name] for name in Record.__slots__})
    record.hierarchies = [(version, mount, controllers) for version, mount, controllers in record.hierarchies]
    return record
