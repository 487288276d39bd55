"""The phases of a start in the log (--debug), each beside the words of runc's log: scripts look for those."""

from shimd.command.journal import Journal

SET_UP = "nsexec container setup"
CHILD = "child process in init()"
SET_UP_ENDED = "init: closing the pipe to signal completion"
EXEC = "setns_init: about to exec"


def tell(journal: Journal, what: str, runcs: str) -> None:
    """What happens, when it does."""
    journal.debug(f"{what} (in runc's words: {runcs})")
