"""create: a container whose program waits for `start`; and a planner for the creates that follow."""

import os

from shimd.command.birth import Birth, connect_console
from shimd.command.context import Context
from shimd.command.flags import text

SWITCH = "ASYNCRT_OCI_PLANNER"


def main(context: Context) -> int:
    socket = text(context.values, "console-socket")
    birth = Birth(context.shelf(), context.values, context.journal)
    assert birth.config.process is not None
    birth.deliver(connect_console(socket, birth.config.process.terminal))
    if os.geteuid() == 0 and os.environ.get(SWITCH, "on") != "off":
        _leave_planner(context)
    return 0


def _leave_planner(context: Context) -> None:
    from shimd.command import planner

    try:
        planner.leave_one()
    except OSError as error:
        context.journal.debug(f"there will be no planner: {error.strerror}")
