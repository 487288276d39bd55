"""The verbs of `asyncrt-oci` and their flags: one table. A verb's work is `main` in the file of its name.

The help stands in runc's form (a NAME, a USAGE), since callers ask it what a runtime can do, and says with each verb
in place of which of runc's it stands.
"""

from __future__ import annotations

from shimd.command.flags import LIST, NUMBER, SWITCH, WORD, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL = (
    Flag("root", WORD, "directory of the containers' state, best on a tmpfs"),
    Flag("log", WORD, "file for errors and warnings (default: stderr)"),
    Flag("log-format", WORD, "text or json", "text"),
    Flag("debug", SWITCH, "tell more"),
    Flag("systemd-cgroup", SWITCH, "refused: the systemd driver does not exist"),
    Flag("rootless", WORD, "accepted for runc's callers"),
    Flag("criu", WORD, "accepted for runc's callers"),
    Flag("version v", SWITCH, "print the version"),
    Flag("help h", SWITCH, "show help"),
)
HELP = Flag("help h", SWITCH, "show help")

_BUNDLE = Flag("bundle b", WORD, "directory that holds config.json (default: here)")
_CONSOLE_SOCKET = Flag("console-socket", WORD, "unix socket that takes the terminal's master")
_PID_FILE = Flag("pid-file", WORD, "file for the process id")
_PRESERVE_FDS = Flag("preserve-fds", NUMBER, "pass N more file descriptors, from 3 on")
_DETACH = Flag("detach d", SWITCH, "do not wait for the end")
_FORMAT = Flag("format f", WORD, "table or json", "table")
_CREATION = (
    _BUNDLE,
    Flag("config f", WORD, "file of the bundle to read in config.json's place, as crun has it"),
    _CONSOLE_SOCKET,
    _PID_FILE,
    _PRESERVE_FDS,
    Flag("no-pivot", SWITCH, "no pivot_root: for a root on the kernel's first ramfs"),
    Flag("no-new-keyring", SWITCH, "keep the caller's session keyring"),
)


class Verb:
    """`arguments` as the usage shows them; `least` and `most` count them. `to_first`: a command may follow."""

    __slots__ = ("arguments", "flags", "help", "least", "most", "to_first")

    def __init__(
        self,
        help: str,
        arguments: str,
        least: int,
        most: int | None,
        flags: Sequence[Flag] = (),
        *,
        to_first: bool = False,
    ) -> None:
        self.help = help
        self.arguments = arguments
        self.least = least
        self.most = most
        self.flags = (*flags, HELP)
        self.to_first = to_first


ID = "CONTAINER"
VERBS = {
    "create": Verb("make a container; its program waits for start", ID, 1, 1, _CREATION),
    "start": Verb("run the program of a created container", ID, 1, 1),
    "run": Verb(
        "create and start, and unless detached wait and delete",
        ID,
        1,
        1,
        (
            *_CREATION,
            _DETACH,
            Flag("keep", SWITCH, "do not delete the container when it has ended"),
            Flag("no-subreaper", SWITCH, "do not adopt what the container leaves behind"),
        ),
    ),
    "state": Verb("print a container's state", ID, 1, 1),
    "kill": Verb("send a signal (default: TERM)", f"{ID} [SIGNAL]", 1, 2, (Flag("all a", SWITCH, "to every process"),)),
    "delete": Verb(
        "remove what is left of a container",
        ID,
        1,
        1,
        (
            Flag("force f", SWITCH, "kill it first"),
            Flag("regex r", SWITCH, "every container whose ID the regular expression finds, as crun has it"),
        ),
    ),
    "exec": Verb(
        "run one more program in a container",
        f"{ID} COMMAND [ARGUMENT...]",
        1,
        None,
        (
            _CONSOLE_SOCKET,
            _PID_FILE,
            _PRESERVE_FDS,
            _DETACH,
            Flag("process p", WORD, "file with the spec's process object"),
            Flag("cwd", WORD, "working directory"),
            Flag("env e", LIST, "NAME=VALUE"),
            Flag("tty t", SWITCH, "with a terminal"),
            Flag("user u", WORD, "UID[:GID]"),
            Flag("additional-gids g", LIST, "one more group"),
            Flag("cap c", LIST, "one more capability"),
            Flag("no-new-privs", SWITCH, "set no_new_privs"),
            Flag("process-label", WORD, "SELinux label"),
            Flag("apparmor", WORD, "AppArmor profile"),
            Flag("cgroup", LIST, "[CONTROLLER:]PATH below the container's cgroup"),
            Flag("ignore-paused", SWITCH, "wait in a paused container until it is resumed"),
        ),
        to_first=True,
    ),
    "ps": Verb("list a container's processes", f"{ID} [PS-OPTION...]", 1, None, (_FORMAT,), to_first=True),
    "list": Verb("list containers", "", 0, 0, (_FORMAT, Flag("quiet q", SWITCH, "ids only"))),
    "pause": Verb("freeze every process", ID, 1, 1),
    "resume": Verb("let them go on", ID, 1, 1),
    "update": Verb(
        "change a container's limits",
        ID,
        1,
        1,
        (
            Flag("resources r", WORD, "file with the spec's resources object, - for stdin"),
            Flag("blkio-weight", NUMBER, "10 to 1000"),
            Flag("cpu-period", NUMBER, "microseconds"),
            Flag("cpu-quota", NUMBER, "microseconds a period"),
            Flag("cpu-burst", NUMBER, "microseconds"),
            Flag("cpu-share cpu-shares", NUMBER, "weight among containers"),
            Flag("cpu-rt-period", NUMBER, "microseconds"),
            Flag("cpu-rt-runtime", NUMBER, "microseconds a period"),
            Flag("cpu-idle", NUMBER, "0 or 1"),
            Flag("cpuset-cpus", WORD, "CPUs, as in 0-2,7"),
            Flag("cpuset-mems", WORD, "memory nodes"),
            Flag("memory", WORD, "bytes, or with a suffix b, k, m, g; -1 for no limit"),
            Flag("memory-reservation", WORD, "bytes"),
            Flag("memory-swap", WORD, "bytes of memory and swap, -1 for no limit"),
            Flag("pids-limit", NUMBER, "processes"),
        ),
    ),
    "events": Verb(
        "print statistics and out-of-memory events as JSON",
        ID,
        1,
        1,
        (
            Flag("interval", WORD, "between two statistics, as in 5s", "5s"),
            Flag("stats", SWITCH, "print the statistics once"),
        ),
    ),
    "spec": Verb(
        "write a config.json to begin with",
        "",
        0,
        0,
        (
            Flag("bundle b", WORD, "directory to write it into (default: here)"),
            Flag("rootless", SWITCH, "for a user without rights"),
        ),
    ),
    "features": Verb("print what this runtime can do", "", 0, 0),
    "plan": Verb(
        "print what create and start would do, and do nothing",
        "",
        0,
        0,
        (*_CREATION[:2], *_CREATION[5:]),
    ),
}


OWN = ("plan",)
# runc's verbs that are not here: why. Their help says so, and so does whoever uses one.
LACKING = {
    "checkpoint": "a running container cannot be written to disk: there is nothing here that drives criu",
    "restore": "there are no checkpoints to restore from: there is nothing here that drives criu",
}


def usage(name: str) -> str:
    """The help of a verb, of one of runc's that is not here, or of the program for ""."""
    if not name:
        lines = [
            *("NAME:", "   asyncrt-oci, in place of runc - Open Container Initiative runtime", ""),
            *("USAGE:", "   asyncrt-oci [FLAG...] VERB [FLAG...] [ARGUMENT...]", ""),
            "VERBS:",
        ]
        lines += [f"   {verb:10} {entry.help}" for verb, entry in VERBS.items()]
        return "\n".join([*lines, "", "FLAGS:", *_flags(GLOBAL)]) + "\n"
    if name in LACKING:
        return f"NAME:\n   asyncrt-oci {name}, in place of runc {name} - does not exist: {LACKING[name]}\n"
    entry = VERBS[name]
    title = f"   asyncrt-oci {name}, {'runc has none' if name in OWN else f'in place of runc {name}'} - {entry.help}"
    head = f"   asyncrt-oci {name} [FLAG...] {entry.arguments}".rstrip()
    return "\n".join(["NAME:", title, "", "USAGE:", head, "", "FLAGS:", *_flags(entry.flags)]) + "\n"


def _flags(flags: Sequence[Flag]) -> list[str]:
    lines = []
    for flag in flags:
        words = ", ".join(("--" if len(name) > 1 else "-") + name for name in flag.names)
        lines.append(f"   {words + ('' if flag.kind == SWITCH else ' ' + flag.kind.upper()):32} {flag.help}")
    return lines
