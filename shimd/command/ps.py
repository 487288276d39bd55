"""ps: the processes of a container, as the machine's own ps shows them."""

import os
import subprocess

from shimd.command import members, status
from shimd.command.context import Context
from shimd.command.flags import Misuse
from shimd.container import lifecycle
from shimd.errors import RuntimeTrouble, Trouble, from_oserror
from shimd.spec import text


def main(context: Context) -> int:
    form = context.values["format"]
    if form not in ("table", "json"):
        raise Misuse(f"invalid format option {form!r}: table or json")
    shelf = context.shelf()
    record = shelf.read()
    # Of a container that stopped nobody is left, or who shared its pid namespace.
    stopped = status.of(shelf, record) == lifecycle.STOPPED
    pids = [] if stopped and record.own_pids else members.pids(record)
    if form == "json":
        os.write(1, (text.write(pids) + "\n").encode())
        return 0
    options = context.arguments[1:] or ["-ef"]
    try:
        done = subprocess.run(["ps", *options], check=False, capture_output=True, encoding="utf-8", errors="replace")
    except OSError as error:
        raise RuntimeTrouble(from_oserror("run", "ps", error, "--format json needs none")) from None
    if done.returncode:
        raise RuntimeTrouble(Trouble("run", f"ps {' '.join(options)}", done.stderr.strip()))
    os.write(1, _only(done.stdout.splitlines(), pids).encode())
    return 0


def _only(lines: list[str], pids: list[int]) -> str:
    """The title and the lines whose PID column holds one of ours."""
    titles = lines[0].split()
    if "PID" not in titles:
        raise RuntimeTrouble(Trouble("read", "output of ps", "it has no PID column", "add -o pid to its options"))
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    kept = [line for line in lines[1:] if line.split()[column : column + 1] and line.split()[column] in wanted]
    return "".join(f"{line}\n" for line in [lines[0], *kept])
