"""ROOT/ID/plain: what the front has to know of a container to start and delete it, in lines, since it reads no JSON.

    asyncrt-oci 1
    PID START               of init, as in the record
    /sys/fs/cgroup/cpu/ID   a line for each of its cgroups
    end

Written under the lock and after the record says ready; read under the lock. A container without it is the reference's
affair: one with hooks that are due later, one whose init's end is not the end of all, one that shares a cgroup
(shimd/command/front/plain.c).
"""

from shimd.command.members import OWN
from shimd.command.record import Record

HEAD = "asyncrt-oci 1\n"
MOST_BYTES = 7936  # the front has room for 8 KiB


def words(record: Record) -> str:
    """The file's text; "" where there shall be none."""
    below = tail(record)
    return f"{HEAD}{record.pid} {record.start}\n{below}" if below else ""


def tail(record: Record) -> str:
    """The text from the cgroups on; "" for a container that is not plain."""
    directories = [directory for _, directory, _ in record.directories()]
    text = "".join(f"{directory}\n" for directory in (*directories, "end"))
    unusual = record.hooks or not record.own_pids or record.shared or record.cgroup == OWN
    lines, size = text.count("\n"), len(text.encode(errors="surrogateescape"))
    if unusual or lines != len(directories) + 1 or size > MOST_BYTES:
        return ""
    return text
