"""What /proc says about a process (proc_pid_stat(5)). Apart from `processes`, which binds system calls at import."""

GONE = ("Z", "X", "x")  # it ended; whether somebody reaped it is another's affair


def state_and_start(pid: int) -> tuple[str, int]:
    """Its state letter and when it started, in clock ticks since boot: with the pid, an identity. ("X", 0): none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    fields = data[data.rindex(b")") + 2 :].split()
    return fields[0].decode(), int(fields[19])


def lives(pid: int, start: int) -> bool:
    """Is the process that had this pid and start time alive, as its parent would see it?"""
    state, found = state_and_start(pid)
    return found == start and state not in GONE
