"""create: a container whose program waits for `start`."""

from shimd.command.birth import Birth, connect_console
from shimd.command.context import Context
from shimd.command.flags import text


def main(context: Context) -> int:
    socket = text(context.values, "console-socket")
    birth = Birth(context.shelf(), context.values, context.journal)
    assert birth.config.process is not None
    birth.deliver(connect_console(socket, birth.config.process.terminal))
    return 0
