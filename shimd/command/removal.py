"""The end of a container: what create made is taken back, then its poststop hooks run."""

import os
import select

from shimd.command import members
from shimd.command.journal import Journal
from shimd.command.record import Record
from shimd.command.shelf import CONFIG, Shelf
from shimd.container.lifecycle import STOPPED
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.linux import pidfd as pidfds
from shimd.linux import proc
from shimd.linux.pidfd import SIGKILL

DEATH_SECONDS = 10.0
DOUBT_SECONDS = 1.0


def kill(record: Record) -> None:
    """SIGKILL to init, and to all if its end is not theirs; returns when init is dead."""
    pidfd = open_init(record)
    if pidfd >= 0:
        try:
            pidfds.send(pidfd, SIGKILL)
            members.thaw(record)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(DOUBT_SECONDS * 1000):
                members.fetch_back(record)
            if not poll.poll(DEATH_SECONDS * 1000):
                raise RuntimeTrouble(Trouble("kill", record.id, f"it lives {DEATH_SECONDS:.0f} s after SIGKILL"))
        except ProcessLookupError:
            pass  # it ended meanwhile
        finally:
            os.close(pidfd)
    if not record.own_pids:
        members.signal_all(record, SIGKILL)


def await_end(record: Record) -> bool:
    """Wait, for a time, until init is dead by itself; is it?"""
    pidfd = open_init(record)
    if pidfd < 0:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(DEATH_SECONDS * 1000))
    os.close(pidfd)
    return ended


def open_init(record: Record) -> int:
    """A pidfd of init, proven to be that; -1 if it ended."""
    try:
        pidfd = os.pidfd_open(record.pid) if record.pid else -1
    except ProcessLookupError:
        return -1
    if pidfd >= 0 and not proc.lives(record.pid, record.start):
        os.close(pidfd)
        return -1
    return pidfd


def remove(shelf: Shelf, record: Record, journal: Journal) -> None:
    """Cgroups, resctrl groups, directory, poststop hooks; the shelf is locked and init dead."""
    members.remove(record)
    _leave_resctrl(shelf, record)
    shelf.remove()
    if record.hooks.get("poststop"):
        from shimd.command.hooking import run_poststop

        run_poststop(record, record.state(STOPPED), journal)


def _leave_resctrl(shelf: Shelf, record: Record) -> None:
    """The groups of `intelRdt`, of which the kept config alone knows. RuntimeTrouble if one cannot go."""
    try:
        with open(f"{shelf.path}/{CONFIG}", encoding="utf-8", errors="surrogateescape") as file:
            words = file.read()
    except FileNotFoundError:  # create was killed before it made any
        return
    if '"intelRdt"' not in words:
        return
    from shimd.container import resctrl
    from shimd.container.making import Anchors, Making
    from shimd.spec import text
    from shimd.spec.validate import load

    making = Making(record.id, Anchors("", "", ""), [], record.cgroup, "", [], {})
    for step in resctrl.compile_groups(load(text.read(words)).linux.intel_rdt).outside:
        try:
            step.undo(making)
        except OSError as error:
            raise RuntimeTrouble(from_oserror("remove resctrl group", error.filename or record.id, error)) from None
