"""resume: let the processes of a paused container go on."""

from shimd.command.context import Context
from shimd.command.pause import change


def main(context: Context) -> int:
    change(context, "resume")
    return 0
