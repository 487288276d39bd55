"""delete: remove what is left of a container."""

from shimd.command import removal, status
from shimd.command.context import Context
from shimd.command.record import Record
from shimd.command.shelf import Shelf, ids
from shimd.container.lifecycle import STOPPED, TABLE
from shimd.errors import RuntimeTrouble, Trouble


def main(context: Context) -> int:
    force = bool(context.values["force"])
    if not context.values["regex"]:
        return _delete(context.shelf(), force, context)
    return _delete_all(context.arguments[0], force, context)


def _delete_all(expression: str, force: bool, context: Context) -> int:
    """Every container that matches; what hinders one is told and does not keep the others."""
    import re

    try:
        wanted = re.compile(expression)
    except re.error as error:
        raise RuntimeTrouble(Trouble("use", f"--regex {expression!a:.80}", str(error))) from None
    failed = 0
    for id in ids(context.root):
        if not wanted.search(id):
            continue
        try:
            _delete(Shelf(context.root, id), force, context)
        except RuntimeTrouble as error:
            if error.trouble.errno != 2:  # somebody else was faster
                context.journal.error(str(error))
                failed = 1
    return failed


def _delete(shelf: Shelf, force: bool, context: Context) -> int:
    try:
        shelf.lock()
        record = _read(shelf, force)
    except RuntimeTrouble as error:
        if force and error.trouble.errno == 2:
            return 0  # what it asks for is so already
        raise
    if record is None:
        shelf.remove()
        return 0
    now = status.of(shelf, record)
    if "delete" not in TABLE[now] and not force:
        cause = f"cannot delete container {record.id} that is not stopped: {now}"
        raise RuntimeTrouble(Trouble("delete", record.id, cause, "kill it first, or use --force"))
    if now != STOPPED or record.pid:
        removal.kill(record)
    removal.remove(shelf, record, context.journal)
    return 0


def _read(shelf: Shelf, force: bool) -> Record | None:
    """The record; None where there is none to read and force will do: a create that was killed before it wrote."""
    try:
        return shelf.read()
    except RuntimeTrouble:
        if force:
            return None
        raise
