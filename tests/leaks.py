"""A count of what an engine can leave behind on a machine, taken before and after, and compared.

    before = snapshot([root, state])
    ...
    assert not settle(before, [root, state])

Eight kinds are counted: mounts, cgroups, processes, network namespaces, network links, unix sockets, open
files of this process, and files. A line of a snapshot is what a person needs to find the thing; equal lines
are counted, so a second mount on the same place is seen.

Other people may use the machine meanwhile. What is theirs is left out where the kernel can tell: a process
that is not of our family, a namespace or cgroup that only such processes are in, a directory that is named
after such a process's pid (`/tmp/asyncrt-PID-...`, as the fixtures and the demo name theirs) or that such a
process names.
"""

import contextlib
import gc
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import reaper

# Where an engine puts things when nobody says where, and where the fixtures put theirs.
PLACES = ("/tmp/asyncrt*", "/run/asyncrt*", "/var/lib/asyncrt*")
CGROUP_PREFIX = "asyncrt"
NAMES = re.compile(r"asyncrt-|shimd|-m asyncrt\b|/asyncrt ")
# asyncrt-oci's planner ends by itself ten seconds after the last request, and its files with it: that it does is a test
# of its own (tests/shimd/command/test_planner.py).
PLANNER = "asyncrt-planner"
PLANNERS_PLACE = "/run/asyncrt-oci-planner"
# What an engine that outlives a test does with its images in its own time: it makes the directory of layers with the
# first, marks those that are on the disk by now, and keeps init layers until no container is left.
_LATER = re.compile(r"/layers/overlay(/[^/]+/settled)?$|/layers/init/")
TEMP_OF_PID = re.compile(r"^/tmp/asyncrt-(\d+)-")
# The kernel ends namespaces, cgroups and mounts some time after the last process: RCU grace periods,
# workqueues.
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Snapshot:
    """Kind -> lines. Kinds: mount, cgroup, process, netns, link, socket, fd, file."""

    kinds: Mapping[str, Counter[str]]


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    comm: str
    start: int  # clock ticks since boot: with the pid, a name that is not used twice
    cmdline: str

    def __str__(self) -> str:
        return f"{self.pid} (started at tick {self.start}) [{self.comm}] {self.cmdline}".rstrip()


def snapshot(dirs: Iterable[Path | str] = (), family: int | None = None) -> Snapshot:
    """Counts everything now.

    `dirs` are watched besides the usual places; `family` is the pid whose descendants are ours (None: the
    reaper's).
    """
    family = reaper.family() if family is None else family
    paths = [os.path.realpath(path) for path in dirs]
    table = {process.pid: process for process in _processes()}
    ours = {pid for pid in _ours(table, family, paths) if table[pid].comm != PLANNER}
    mounts = list(_mounts())
    places = [*paths, *_usual_places(table, ours)]
    return Snapshot(
        {
            "mount": Counter(f"{target} {rest}" for target, rest in mounts),
            "cgroup": Counter(_cgroups(mounts, ours)),
            "process": Counter(str(table[pid]) for pid in ours - {os.getpid(), family}),
            "netns": Counter(_network_namespaces(ours)),
            "link": Counter(os.listdir("/sys/class/net")),
            "socket": Counter(_sockets(places)),
            "fd": Counter(_open_fds()),
            "file": Counter(_files(places, {target for target, _ in mounts})),
        }
    )


def diff(before: Snapshot, after: Snapshot) -> list[str]:
    """A line for each thing that `after` has too much, and each mount that it lacks: not ours to unmount."""
    lines = []
    for kind, counted in after.kinds.items():
        for line, times in (counted - before.kinds[kind]).items():
            lines.append(f"{kind} left behind: {line}" + (f" ({times} times)" if times > 1 else ""))
    lines += [f"mount gone: {line}" for line in before.kinds["mount"] - after.kinds["mount"]]
    return lines


def settle(
    before: Snapshot,
    dirs: Sequence[Path | str] = (),
    family: int | None = None,
    seconds: float = SETTLE_SECONDS,
) -> list[str]:
    """The difference, once it is empty or the kernel has had `seconds` to finish."""
    deadline = time.monotonic() + seconds
    while True:
        left = diff(before, snapshot(dirs, family))
        if not left or time.monotonic() > deadline:
            return left
        # A socket in a reference cycle is closed by the collector: late, but not leaked.
        gc.collect()
        time.sleep(0.05)


def kill_family_naming(path: Path) -> None:
    """SIGKILL to each process of this run that names the path: for a test that has failed already."""
    table = {process.pid: process for process in _processes()}
    for pid in _ours(table, reaper.family(), []) - {reaper.family(), os.getpid()}:
        with contextlib.suppress(OSError):
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            if str(path).encode() in environ or str(path) in table[pid].cmdline:
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text(errors="replace")
            cmdline = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile
        # comm may hold anything, spaces and parentheses too; the fields go on behind the last one.
        head, _, rest = stat.rpartition(")")
        fields = rest.split()
        yield Process(
            pid=int(name),
            parent=int(fields[1]),
            comm=head.partition("(")[2],
            start=int(fields[19]),
            cmdline=cmdline.replace(b"\0", b" ").decode(errors="replace").strip(),
        )


def _ours(table: Mapping[int, Process], family: int, paths: Sequence[str]) -> set[int]:
    """The family's pids, and any process that names one of the paths."""
    ours = {family}
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    stack = [family]
    while stack:
        born = children.get(stack.pop(), [])
        ours.update(born)
        stack.extend(born)
    # With a reaper the family is complete. Without one what daemonised has left it and is only known by its
    # looks.
    by_looks = reaper.MARK not in os.environ
    for process in table.values():
        if any(path in process.cmdline for path in paths) or (
            by_looks and (NAMES.search(process.cmdline) or NAMES.search(process.comm))
        ):
            ours.add(process.pid)
    return ours


def _mounts() -> Iterator[tuple[str, str]]:
    """Pairs of mount point and "type source root" (proc_pid_mountinfo(5)); blanks stay escaped."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        root, target = fields.split()[3:5]
        kind, source = rest.split()[:2]
        yield target, f"({kind} from {source}, its {root})"


def _cgroups(mounts: Iterable[tuple[str, str]], ours: set[int]) -> Iterator[str]:
    """The top-level cgroups of every hierarchy, and all below those that are called after us."""
    for target, rest in mounts:
        if not rest.startswith(("(cgroup ", "(cgroup2 ")):
            continue
        with os.scandir(target) as entries:
            tops = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for top in tops:
            if _is_strangers_cgroup(top, ours):  # with all that is empty below it: a container comes or goes there
                continue
            below = os.walk(top) if os.path.basename(top).startswith(CGROUP_PREFIX) else [(top, [], [])]
            for path, _, _ in below:
                if not _is_strangers_cgroup(path, ours):
                    yield path


def _is_strangers_cgroup(path: str, ours: set[int]) -> bool:
    members: set[int] = set()
    for folder, _, _ in os.walk(path):
        try:
            members.update(int(word) for word in Path(folder, "cgroup.procs").read_text().split())
        except OSError:
            continue  # removed meanwhile, or threaded (v2)
    return bool(members) and not members & ours


def _network_namespaces(ours: set[int]) -> Iterator[str]:
    """Each network namespace that one of ours is in, once, and the named ones.

    One that is held by a mount or by an open file of this process shows among those.
    """
    inodes = set()
    for pid in ours:
        try:
            inodes.add(os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            continue
    yield from inodes
    try:
        yield from (f"/run/netns/{name}" for name in os.listdir("/run/netns"))
    except FileNotFoundError:
        return


def _usual_places(table: Mapping[int, Process], ours: set[int]) -> Iterator[str]:
    # A planner bears the command line of the create that left it, and has nothing there.
    strangers = {pid for pid in table.keys() - ours if table[pid].comm != PLANNER}
    for pattern in PLACES:
        folder, _, name = pattern.rpartition("/")
        for path in Path(folder).glob(name):
            if str(path) == PLANNERS_PLACE:
                continue
            owner = TEMP_OF_PID.match(str(path))
            if owner and (pid := int(owner[1])) in table and pid not in ours:
                continue
            if any(str(path) in table[pid].cmdline for pid in strangers):
                continue
            yield str(path)


def _sockets(places: Sequence[str]) -> Iterator[str]:
    """Bound unix sockets of our network namespace, also where the file is gone already."""
    for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
        path = line.split(None, 7)[7:]
        if path and any(path[0] == place or path[0].startswith(f"{place}/") for place in places):
            yield path[0]


def _open_fds() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that listed the folder
        # Inode numbers say nothing to a person, and a pipe that was replaced by another is not a leak.
        yield re.sub(r":\[\d+\]$", "", target)


def _files(places: Iterable[str], mount_points: set[str]) -> Iterator[str]:
    for place in places:
        if os.path.lexists(place):
            yield place
        for folder, dirs, files in os.walk(place):
            yield from (path for name in (*dirs, *files) if not _LATER.search(path := os.path.join(folder, name)))
            # What is mounted there is somebody's whole disk, and counted as a mount.
            dirs[:] = [name for name in dirs if os.path.join(folder, name) not in mount_points]
