"""pause: freeze every process of a container."""

from shimd.command import members, status
from shimd.command.context import Context
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import freezer


def main(context: Context) -> int:
    change(context, "pause")
    return 0


def change(context: Context, deed: str) -> None:
    """`pause` or `resume`, if the lifecycle table lets it."""
    shelf = context.shelf()
    shelf.lock()
    record = shelf.read()
    now = status.of(shelf, record)
    if now == lifecycle.STOPPED:
        raise RuntimeTrouble(Trouble(deed, record.id, "container not running", errno=3))
    lifecycle.after(now, deed, record.id)
    found = members.place(record)
    if found is None:
        raise RuntimeTrouble(Trouble(deed, record.id, "it has no cgroup of its own to freeze"))
    try:
        (freezer.freeze if deed == "pause" else freezer.thaw)(*found)
    except OSError as error:
        raise RuntimeTrouble(from_oserror(deed, record.id, error)) from None
