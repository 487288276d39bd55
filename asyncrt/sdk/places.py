"""Where an asyncrt lives: several live side by side in different places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

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


def choose(given: Mapping[str, str], environment: Mapping[str, str]) -> Places:
    """What is given (root, state, socket) goes before ASYNCRT_ROOT, ASYNCRT_STATE and ASYNCRT_SOCKET; empty is not set.

    >>> choose({"state": "/tmp/s"}, {"ASYNCRT_ROOT": "/srv"})
    Places(root='/srv', state='/tmp/s', socket='/tmp/s/asyncrt.sock')
    """

    def one(name: str, default: str) -> str:
        chosen = given.get(name) or environment.get(f"ASYNCRT_{name.upper()}") or default
        return os.path.abspath(chosen)

    state = one("state", STATE)
    return Places(one("root", ROOT), state, one("socket", f"{state}/asyncrt.sock"))
