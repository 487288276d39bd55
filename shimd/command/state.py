"""state: print what a container is, as the spec has it and with runc's properties beside."""

from __future__ import annotations

import os
import time

from shimd.command import status
from shimd.command.context import Context
from shimd.command.record import Record
from shimd.container.lifecycle import STOPPED
from shimd.spec import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(context: Context) -> int:
    shelf = context.shelf()
    record = shelf.read()
    print_json(told(record, status.of(shelf, record)))
    return 0


def told(record: Record, now: str) -> dict[str, Any]:
    """One container, for `state` and `list`."""
    return {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": 0 if now == STOPPED else record.pid,
        "status": now,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": moment(record.created_ns),
        **({"annotations": dict(record.annotations)} if record.annotations else {}),
        "owner": owner(record.owner),
    }


def moment(ns: int) -> str:
    """RFC 3339 in UTC with all nine digits, which Go reads."""
    seconds, rest = divmod(ns, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def owner(uid: int) -> str:
    """The user's name; "" where there is none. root's is known without a look into /etc/passwd."""
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def print_json(document: object) -> None:
    """To stdout, as a whole."""
    words = (text.write_lines(document, "  ") + "\n").encode()
    while words:
        words = words[os.write(1, words) :]
