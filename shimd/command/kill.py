"""kill: send a signal to init, or with --all to every process."""

import os

from shimd.command import members, removal, status
from shimd.command.context import Context
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import pidfd
from shimd.linux.pidfd import SIGKILL


def main(context: Context) -> int:
    number = signal_of(context.arguments[1] if context.arguments[1:] else "TERM")
    shelf = context.shelf()
    record = shelf.read()
    now = status.of(shelf, record)
    if now == lifecycle.STOPPED:
        # With --all it may have processes, those of a shared pid namespace; if not, all are what they shall be.
        if not context.values["all"]:
            raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3))
    else:
        lifecycle.after(now, "kill", record.id)
    if context.values["all"]:
        members.signal_all(record, number)
        return 0
    init = removal.open_init(record)
    if init < 0:
        raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3))
    try:
        pidfd.send(init, number)
    except ProcessLookupError:
        raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3)) from None
    finally:
        os.close(init)
    if number == SIGKILL:
        members.thaw(record)
        if not record.own_pids:
            members.signal_all(record, number)
    return 0


def signal_of(word: str) -> int:
    """RuntimeTrouble for no signal."""
    number = pidfd.number_of(word)
    if number < 0:
        raise RuntimeTrouble(Trouble("use", f"{word!a:.40}", "unknown signal", "a number or a name such as TERM"))
    return number
