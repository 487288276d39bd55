"""run: create and start; in the foreground wait for the end and delete."""

from __future__ import annotations

from shimd.command import gate, notify, removal
from shimd.command.birth import Birth, Newborn, connect_console
from shimd.command.context import Context
from shimd.command.flags import text
from shimd.command.foreground import Foreground
from shimd.command.shelf import Shelf
from shimd.command.terminal import Terminal
from shimd.container.bundle import NO_PROCESS
from shimd.errors import RuntimeTrouble, Trouble


def main(context: Context) -> int:
    shelf = context.shelf()
    birth = Birth(shelf, context.values, context.journal)
    assert birth.config.process is not None
    if birth.config.process is NO_PROCESS:
        raise RuntimeTrouble(Trouble("run", "$.process", "it is missing in the config", "create alone does without"))
    wanted = birth.config.process.terminal
    socket = text(context.values, "console-socket")
    if context.values["detach"]:
        newborn = birth.deliver(connect_console(socket, wanted))
        notice = _start(shelf, newborn, context)
        if notice is not None:
            notice.wait(newborn.record)
        return 0
    if socket:
        hint = "add --detach, or leave it out"
        raise RuntimeTrouble(Trouble("use", "--console-socket", "a foreground container has our own terminal", hint))
    foreground = Foreground(adopt=not context.values["no-subreaper"])
    terminal = Terminal() if wanted else None
    try:
        newborn = birth.deliver(terminal.theirs if terminal else -1)
        if terminal is not None:
            terminal.take()
        notice = _start(shelf, newborn, context)
        code = foreground.wait(newborn.born.pid, newborn.born.pidfd, terminal, notice)
    finally:
        if terminal is not None:
            terminal.restore()
    if not context.values["keep"]:
        _remove(shelf, newborn, context)
    return code


def _start(shelf: Shelf, newborn: Newborn, context: Context) -> notify.Notice | None:
    shelf.lock()
    try:
        notice = notify.opened(shelf, context.journal)
        gate.open_(shelf, newborn.record, context.journal)
    except RuntimeTrouble:
        removal.kill(newborn.record)
        removal.remove(shelf, newborn.record, context.journal)
        raise
    shelf.unlock()
    return notice


def _remove(shelf: Shelf, newborn: Newborn, context: Context) -> None:
    """Unless somebody else did."""
    try:
        shelf.lock()
    except RuntimeTrouble as error:
        if error.trouble.errno == 2:
            return
        raise
    removal.kill(newborn.record)
    removal.remove(shelf, newborn.record, context.journal)
