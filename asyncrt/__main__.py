"""`python -m asyncrt`: the command line, with the supervisor within reach. It stands above cli and daemon."""

from __future__ import annotations

import sys

from asyncrt.cli.main import main


def _daemon(root: str, state: str, socket: str, ready_fd: int | None) -> int:
    from asyncrt import daemon  # 130 ms and 14 MiB of trio, for this verb alone

    return daemon.main(root, state, socket, ready_fd)


if __name__ == "__main__":
    sys.exit(main(daemon=_daemon))
