"""What a container is just now: the kernel's answer, in the words of the lifecycle table.

record is not ready     creating, while its lock is held; else its create was killed: stopped
no process of that      stopped
pid and start time
fifo `start` is read    created: init waits, and exec closes the fifo
freezer                 paused
else                    running
"""

import errno
import os

from shimd.command import shelf as files
from shimd.command.record import Record
from shimd.command.shelf import Shelf
from shimd.container.lifecycle import CREATED, CREATING, PAUSED, RUNNING, STOPPED
from shimd.linux import freezer, proc


def of(shelf: Shelf, record: Record) -> str:
    """The status; `shelf` may be locked by ourselves."""
    if not record.ready:
        return CREATING if shelf.fd < 0 and shelf.is_locked() else STOPPED
    if not proc.lives(record.pid, record.start):
        return STOPPED
    if _waits(shelf):
        return CREATED
    return PAUSED if is_paused(record) else RUNNING


def is_paused(record: Record) -> bool:
    """Does its freezer hold it?"""
    for version, directory, controllers in record.directories():
        if version == 2 or "freezer" in controllers:
            return freezer.is_frozen(version, directory)
    return False


def _waits(shelf: Shelf) -> bool:
    """Has the fifo a reader?"""
    try:
        os.close(os.open(f"{shelf.path}/{files.START}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    return True
