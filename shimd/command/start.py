"""start: run a created container's program; where a manager asks, wait until it says that it is ready."""

from __future__ import annotations

import os

from shimd.command import gate, status
from shimd.command.context import Context
from shimd.command.record import Record
from shimd.command.shelf import Shelf
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shimd.command.notify import Notice

# runc's words, by which callers know what was wrong.
REFUSALS = {
    lifecycle.STOPPED: "cannot start a container that has stopped",
    lifecycle.RUNNING: "cannot start an already running container",
}


def main(context: Context) -> int:
    shelf = context.shelf()
    shelf.lock()
    record = shelf.read()
    outcome = gate.handed()
    if outcome >= 0:
        try:
            gate.hear(record, outcome)
        except gate.HookFailed:
            _destroy(shelf, record, context)
            raise
        return 0
    now = status.of(shelf, record)
    if now in REFUSALS:
        raise RuntimeTrouble(Trouble("start", record.id, REFUSALS[now]))
    lifecycle.after(now, "start", record.id)
    notice = _notice(shelf, context)
    try:
        gate.open_(shelf, record, context.journal)
    except gate.HookFailed:
        _destroy(shelf, record, context)
        raise
    if notice is not None:
        shelf.unlock()
        notice.wait(record)
    return 0


def _destroy(shelf: Shelf, record: Record, context: Context) -> None:
    from shimd.command import removal

    removal.remove(shelf, record, context.journal)


def _notice(shelf: Shelf, context: Context) -> Notice | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from shimd.command import notify

    return notify.opened(shelf, context.journal)
