"""kill: send a signal to init, or with --all to every process."""

import os
import signal
from signal import SIGKILL, pidfd_send_signal

from shimd.command import members, removal, status
from shimd.command.context import Context
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble

LAST = 64
REALTIME = {"RTMIN": 34, "RTMAX": 64}


def main(context: Context) -> int:
    number = signal_of(context.arguments[1] if context.arguments[1:] else "TERM")
    shelf = context.shelf()
    record = shelf.read()
    now = status.of(shelf, record)
    if now == lifecycle.STOPPED:
        # With --all a stopped container may have processes: those of a shared pid namespace.
        if not (context.values["all"] and not record.own_pids and members.pids(record)):
            raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3))
    else:
        lifecycle.after(now, "kill", record.id)
    if context.values["all"]:
        members.signal_all(record, number)
        return 0
    pidfd = removal.open_init(record)
    if pidfd < 0:
        raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3))
    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise RuntimeTrouble(Trouble("kill", record.id, "container not running", errno=3)) from None
    finally:
        os.close(pidfd)
    if number == SIGKILL:
        members.thaw(record)
        if not record.own_pids:
            members.signal_all(record, number)
    return 0


def signal_of(word: str) -> int:
    """A signal by number or name, with or without SIG, in either case; RTMIN+1 too. RuntimeTrouble for no signal."""
    name = word.upper().removeprefix("SIG")
    base, sign, distance = name.partition("-" if name.startswith("RTMAX") else "+")
    if word.isascii() and word.isdigit() and len(word) < 4:
        number = int(word)
    elif base in REALTIME and (not sign or (distance.isascii() and distance.isdigit())):
        step = int(distance or 0)
        number = REALTIME[base] + (-step if base == "RTMAX" else step)
    else:
        found = getattr(signal, f"SIG{name}", None) if name.isalnum() else None
        number = int(found) if isinstance(found, int) else 0
    if not 1 <= number <= LAST:
        raise RuntimeTrouble(Trouble("use", f"{word!a:.40}", "unknown signal", "a number or a name such as TERM"))
    return number
