"""start: run a created container's program."""

from shimd.command import gate, status
from shimd.command.context import Context
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble

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
        gate.hear(record, outcome)
        return 0
    now = status.of(shelf, record)
    if now in REFUSALS:
        raise RuntimeTrouble(Trouble("start", record.id, REFUSALS[now]))
    lifecycle.after(now, "start", record.id)
    try:
        gate.open_(shelf, record, context.journal)
    except gate.HookFailed:
        from shimd.command import removal

        removal.remove(shelf, record, context.journal)
        raise
    return 0
