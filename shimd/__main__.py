"""`python -m shimd zygote CONTROL_FD TICKETS_FD SPAWNS_FD STATE KEEP...`: what the supervisor execs first of all."""

from __future__ import annotations

import sys

from shimd.server import zygote


def main() -> int:
    if len(sys.argv) < 6 or sys.argv[1] != "zygote":
        print(__doc__, file=sys.stderr)
        return 2
    return zygote.main(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], sys.argv[6:])


if __name__ == "__main__":
    sys.exit(main())
