"""Where an asyncrt lives: several live side by side in different places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from asyncrt.errors import BadRequest

ROOT = "/var/lib/asyncrt"
STATE = "/run/asyncrt"


class Places(NamedTuple):
    """Absolute paths. `root` outlives a reboot, `state` does not; `socket` is the supervisor's door."""

    root: str = ROOT
    state: str = STATE
    socket: str = f"{STATE}/asyncrt.sock"

    @property
    def log(self) -> str:
        """What a supervisor that was not started by hand writes to."""
        return f"{self.state}/daemon.log"

    def arguments(self) -> list[str]:
        """The global flags that name these places."""
        return ["--root", self.root, "--state", self.state, "--socket", self.socket]


def places(flags: Mapping[str, str], environment: Mapping[str, str]) -> Places:
    """Flags (root, state, socket) go before ASYNCRT_ROOT, ASYNCRT_STATE and ASYNCRT_SOCKET; empty is not set.

    Raises BadRequest for an empty flag or a NUL byte.
    """
    for name, value in flags.items():
        if not value or "\0" in value:
            raise BadRequest("read", f"--{name}", "it is no path", "give a directory, or leave it out")

    def choose(name: str, default: str) -> str:
        chosen = flags.get(name) or environment.get(f"ASYNCRT_{name.upper()}") or default
        return os.path.abspath(chosen)

    state = choose("state", STATE)
    return Places(choose("root", ROOT), state, choose("socket", f"{state}/asyncrt.sock"))
