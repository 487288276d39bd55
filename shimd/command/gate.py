"""`start` seen from outside: the byte into one fifo, the answer from the other (shimd/container/waiting.py)."""

import errno
import os
import select

from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.shelf import OUTCOME, START, Shelf
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import proc

LONGEST = 4096
HANDED = "ASYNCRT_OCI_OUTCOME"  # the front knocked, and left this fd of the fifo `outcome` for us to read


HOOK = b"\0"  # shimd/container/waiting.py, which is not imported for it


class HookFailed(RuntimeTrouble):
    """A startContainer or poststart hook failed: the container is to be destroyed (runtime.md, "Lifecycle", 7, 9)."""


def open_(shelf: Shelf, record: Record, journal: Journal) -> None:
    """Let a created container's program run, then its poststart hooks. RuntimeTrouble if it does not run.

    HookFailed if a startContainer or poststart hook fails: it has ended, and is the caller's to remove.
    """
    outcome = os.open(f"{shelf.path}/{OUTCOME}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _knock(shelf)
        words = _answer(outcome)
    finally:
        os.close(outcome)
    if words:
        raise failure(record, words)
    if record.hooks.get("poststart"):
        _after(record, journal)


def handed() -> int:
    """The fd that the front left; -1 if there is none. Asked once: nobody else may take it for his."""
    word = os.environ.pop(HANDED, "")
    return int(word) if word.isdigit() else -1


def hear(record: Record, outcome: int) -> None:
    """What init says of a start that the front began. RuntimeTrouble with it."""
    words = _answer(outcome)
    if words:
        raise failure(record, words)


def failure(record: Record, words: bytes) -> RuntimeTrouble:
    """What init said, once it has ended: its fifo goes before it does, and who hears of a failure deletes at once."""
    from shimd.command import removal

    if not removal.await_end(record):
        removal.kill(record)
    kind = HookFailed if words.startswith(HOOK) else RuntimeTrouble
    return kind(Trouble("start", record.id, words.removeprefix(HOOK).decode(errors="replace")))


def _knock(shelf: Shelf) -> None:
    try:
        start = os.open(f"{shelf.path}/{START}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise RuntimeTrouble(Trouble("start", shelf.id, "container process is gone")) from None
    os.write(start, b"0")
    os.close(start)


def _answer(outcome: int) -> bytes:
    """All that comes until init closes its end, by exec or by death."""
    poll = select.poll()
    poll.register(outcome, select.POLLIN)
    words = b""
    while True:
        poll.poll()
        try:
            part = os.read(outcome, LONGEST)
        except BlockingIOError:
            continue
        if not part:
            return words
        words += part


def _after(record: Record, journal: Journal) -> None:
    from shimd.command import hooking, removal

    if not proc.lives(record.pid, record.start):
        journal.debug(f"{record.id} ended before its poststart hooks")
    try:
        hooking.run_poststart(record, record.state("running"))
    except RuntimeTrouble as error:
        removal.kill(record)
        raise HookFailed(error.trouble) from None
