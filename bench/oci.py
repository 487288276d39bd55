"""create + start + delete as three commands, beside runc and crun: CPU and wall time, and the ratio.

    sudo python bench/oci.py [--rounds 20] [--peers runc,crun] [--runtime NAME=COMMAND ...]

Rounds are interleaved, a container of each runtime in turn, so that what else the machine does meets all alike. CPU is
all that the commands and what they left behind used, init's set-up and the program's own few system calls included:
this process is the subreaper that adopts init and waits for it, and takes the difference of its children's usage
(getrusage(2), RUSAGE_CHILDREN) before and after. What a runtime keeps beside its commands for a while (asyncrt-oci's
planner) counts as well: the run time that the kernel tells of it (/proc/PID/schedstat), in a column of its own too. The
round that has to start it is not counted; `first` is what that one cost. `state` is timed once a round beside them.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
VERBS = ("create", "start", "state", "delete")
COUNTED = ("create", "start", "delete")
PEERS = {"runc": "runc", "crun": "crun --cgroup-manager cgroupfs"}


def config(rootfs: Path) -> dict[str, object]:
    """What `runc spec` writes, for a program that sleeps; no limits, so that each runtime's own defaults show."""
    made = subprocess.run(["runc", "spec"], cwd=rootfs.parent, check=False, capture_output=True).returncode == 0
    if not made:
        command = [sys.executable, "-m", "shimd.command.main", "spec", "-b", str(rootfs.parent)]
        subprocess.run(command, check=True)
    document: dict[str, object] = json.loads((rootfs.parent / "config.json").read_text())
    process = document["process"]
    assert isinstance(process, dict)
    process.update(terminal=False, args=["/bin/busybox", "sleep", "1000"])
    process["capabilities"].pop("ambient", None)
    process["rlimits"] = []
    return document


def beside() -> list[int]:
    """Pids of what the commands left running that is no container: our children by adoption, in our pid namespace."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [
        int(pid)
        for pid in listed
        if "asyncrt-oci" in _file(pid, "cmdline") and _file(pid, "stat").split(") ")[1][0] != "Z"
    ]


def _file(pid: str | int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def beside_ms() -> float:
    return sum(int((_file(pid, "schedstat") or "0").split()[0]) / 1e6 for pid in beside())


def spent_ms() -> float:
    """CPU of all children, those that ended and those beside; one that ends only changes from here to there."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1000 + beside_ms()


def perform(command: list[str]) -> float:
    """The wall time of a command in ms; whatever else ended is reaped on the way."""
    begun = time.monotonic()
    null = os.open(os.devnull, os.O_RDWR)
    process = os.posix_spawnp(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
    )
    os.close(null)
    _, status = os.waitpid(process, 0)
    elapsed = (time.monotonic() - begun) * 1000
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return elapsed


def reap_all() -> None:
    """Adopted children are killed by `delete`: this ends. What stays beside is not waited for."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            if beside() and len(beside()) == len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
                return
            time.sleep(0.0005)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peers", default=",".join(PEERS), help="which of them, if they are installed")
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME=COMMAND")
    given = parser.parse_args()
    ours = Path(sys.executable).with_name("asyncrt-oci")
    runtimes = {"asyncrt-oci": str(ours)}
    runtimes |= {
        name: command for name, command in PEERS.items() if name in given.peers.split(",") and shutil.which(name)
    }
    runtimes |= dict(word.split("=", 1) for word in given.runtime)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="asyncrt-bench-oci-") as folder:
        rootfs = Path(folder, "rootfs")
        for name in ("bin", "dev", "proc", "sys"):
            (rootfs / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", rootfs / "bin/busybox")
        (rootfs.parent / "config.json").write_text(json.dumps(config(rootfs)))
        figures = measure(runtimes, Path(folder), given.rounds)
    report(figures)
    return 0


def measure(runtimes: dict[str, str], folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    columns = (*VERBS, "cpu", "beside", "first")
    figures: dict[str, dict[str, list[float]]] = {name: {verb: [] for verb in columns} for name in runtimes}
    for number in range(rounds + 1):
        for name, words in runtimes.items():
            base = [*words.split(), "--root", str(folder / f"state-{name}")]
            id = f"asyncrt-bench-{os.getpid()}-{number}"
            walls: dict[str, float] = {}
            before, others = spent_ms(), beside_ms()
            walls["create"] = perform([*base, "create", "--bundle", str(folder), id])
            walls["start"] = perform([*base, "start", id])
            walls["delete"] = perform([*base, "delete", "--force", id])
            reap_all()
            cpu = spent_ms() - before
            if not number:  # it warms caches, and has no planner yet
                figures[name]["first"].append(cpu)
                continue
            figures[name]["cpu"].append(cpu)
            figures[name]["beside"].append(beside_ms() - others)
            for verb, wall in walls.items():
                figures[name][verb].append(wall)
            figures[name]["state"].append(timed_state(base, folder, id))
    return figures


def timed_state(base: list[str], folder: Path, id: str) -> float:
    perform([*base, "create", "--bundle", str(folder), id])
    wall = perform([*base, "state", id])
    perform([*base, "delete", "--force", id])
    reap_all()
    return wall


def report(figures: dict[str, dict[str, list[float]]]) -> None:
    medians = {name: {key: statistics.median(values) for key, values in rows.items()} for name, rows in figures.items()}
    ours = medians["asyncrt-oci"]["cpu"]
    heads = "".join(f"{verb:>9}" for verb in VERBS)
    print(f"{'ms, medians':14}{heads}{'CPU of 3':>10}{'beside':>9}{'first':>9}{'ours is':>10}")
    for name, row in medians.items():
        walls = "".join(f"{row[verb]:9.1f}" for verb in VERBS)
        print(f"{name:14}{walls}{row['cpu']:10.1f}{row['beside']:9.1f}{row['first']:9.1f}{ours / row['cpu']:9.2f}x")


if __name__ == "__main__":
    sys.exit(main())
