"""asyncrt daemon: run the supervisor in the foreground, or stop it (containers go on)."""

from __future__ import annotations

import contextlib
import os
import select
import sys

from asyncrt.cli.connect import knock
from asyncrt.cli.flags import Flag, Words
from asyncrt.cli.places import Places
from asyncrt.cli.verb import Verb
from asyncrt.errors import BadRequest, Unavailable
from asyncrt.sdk.door import command, environment, need_root

# What a supervisor that is started by another command gets from the environment alone (asyncrt/daemon.py, Settings).
SETTINGS = {
    "cgroup-driver": "ASYNCRT_CGROUP_DRIVER",
    "cgroup-parent": "ASYNCRT_CGROUP_PARENT",
    "hooks-dir": "ASYNCRT_HOOKS_DIR",
}
PATIENCE = 30.0  # seconds for a supervisor to put its things down


def _daemon(words: Words, places: Places) -> int:
    if words.rest == ["stop"]:
        return _stop(places)
    if words.rest:
        raise BadRequest("daemon", f'"{words.rest[0]}"', "no such word", "did you mean stop?")
    need_root()
    # Only `python -m asyncrt` stands above both houses; from the console script we become it.
    ready = words.one("ready-fd")
    argv = command(places, int(ready) if ready.isdecimal() else -1)
    told = {name: ":".join(words.all(flag)) for flag, name in SETTINGS.items() if words.given(flag)}
    sys.stdout.flush()
    os.execve(argv[0], argv, {**environment(), **told})


def _stop(places: Places) -> int:
    client = knock(places, timeout=PATIENCE)
    if client is None:
        print(f"no supervisor runs at {places.socket}")
        return 0
    with contextlib.closing(client):
        pid = client.shutdown()
        if not client.wait_closed(PATIENCE) or not _ended(pid, PATIENCE):
            cause = f"it has not gone after {PATIENCE:.0f} s"
            raise Unavailable("stop", f"the supervisor (pid {pid})", cause, f"see {places.log}")
    print(f"stopped the supervisor (pid {pid}); containers go on")
    return 0


def _ended(pid: int, timeout: float) -> bool:
    """Whether the process ended within `timeout` seconds: what it takes down last has no connection any more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(pidfd)


VERB = Verb(
    usage="daemon [--cgroup-driver NAME] [--cgroup-parent PATH] [--hooks-dir DIR] [stop]",
    run=_daemon,
    flags=(
        Flag("foreground", "", "", "what it does anyway"),
        Flag("cgroup-driver", "", "NAME", "cgroupfs, or systemd: have it make the parent cgroup"),
        Flag("cgroup-parent", "", "PATH", "the cgroup that its own is made in; a slice, with systemd"),
        Flag("hooks-dir", "", "DIR", "hooks of containers, in podman's format"),
        Flag("ready-fd", "", "FD"),
    ),
    most=1,
)
