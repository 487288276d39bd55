"""Operations on the process itself, the last before exec: limits, user, capabilities, cwd, exec.

The same list serves init and every exec. Their order is the kernel's: what needs privilege comes before what drops it.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shimd.container import labels, scheduling
from shimd.container.making import Making, Operation
from shimd.errors import NOT_EXECUTABLE, NOT_FOUND, RuntimeTrouble, Trouble
from shimd.linux import executables, identity, processes, procfs
from shimd.spec.config import Process

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_UMASK = 0o022
INFINITY = (1 << 64) - 1


class SetOomScore(NamedTuple):
    """Through the machine's procfs, before the root changes (CVE-2019-19921)."""

    value: int

    def describe(self) -> tuple[str, str]:
        return "set", f"oom_score_adj to {self.value}"

    def execute(self, making: Making) -> None:
        procfs.write("self/oom_score_adj", str(self.value))


class JoinKeyring(NamedTuple):
    """A session keyring of the container's own, where the kernel has keyrings."""

    def describe(self) -> tuple[str, str]:
        return "join", "session keyring"

    def execute(self, making: Making) -> None:
        try:
            processes.join_session_keyring(f"_ses.{making.id}")
        except OSError as error:
            # ENOSYS: built without; EDQUOT: the kernel's quota of keys is used up, and containers go on without.
            if error.errno not in (errno.ENOSYS, errno.EDQUOT):
                raise


class SetRlimit(NamedTuple):
    """Soft and hard limit in setrlimit(2)'s units; 2**64-1 is infinity."""

    type: str
    soft: int
    hard: int

    def describe(self) -> tuple[str, str]:
        return "set", f"{self.type} to {self.soft}:{self.hard}"

    def execute(self, making: Making) -> None:
        values = [-1 if value == INFINITY else value for value in (self.soft, self.hard)]
        processes.prlimit(self.number, *values)

    @property
    def number(self) -> int:
        """RLIMIT_* as setrlimit(2) wants it."""
        found: int = getattr(resource, self.type)
        return found


class NoNewPrivileges(NamedTuple):
    def describe(self) -> tuple[str, str]:
        return "set", "no_new_privs"

    def execute(self, making: Making) -> None:
        processes.prctl(processes.PR_SET_NO_NEW_PRIVS, 1)


class ChangeDirectory(NamedTuple):
    """chdir, then proof that the cwd is inside the root (CVE-2024-21626)."""

    path: str

    def describe(self) -> tuple[str, str]:
        return "chdir to", self.path

    def execute(self, making: Making) -> None:
        os.chdir(self.path)
        try:
            inside = os.getcwd().startswith("/")
        except FileNotFoundError:  # glibc's word for a cwd outside the root
            inside = False
        if not inside:
            raise OSError(errno.EXDEV, "it lies outside the container's root", self.path)


class Become(NamedTuple):
    """Take user, groups, umask and capabilities (bits; None: keep what setuid leaves).

    `sets` are bounding, effective, inheritable, permitted and ambient. Inheritable capabilities are what the config
    says, and asyncrt's own configs say none (CVE-2022-29162). What the machine itself cannot grant (`possible`, the
    bounding set where the plan was compiled; 0: look, since a user namespace begins with a full one) is left out, as
    the spec asks.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int
    sets: tuple[int, int, int, int, int] | None
    possible: int

    def describe(self) -> tuple[str, str]:
        return "become", f"user {self.uid}:{self.gid}"

    def execute(self, making: Making) -> None:
        if self.uid:
            _own_stdio(self.uid, self.gid)
        if self.sets is None:
            identity.become(self.uid, self.gid, list(self.groups))
        else:
            bounding, effective, inheritable, permitted, ambient = self.sets
            possible = self.possible or identity.bounding()
            identity.drop_bounding(possible & ~bounding)
            identity.become(self.uid, self.gid, list(self.groups))
            identity.capset(effective & possible, permitted & possible, inheritable & possible)
            identity.set_ambient(ambient & inheritable & permitted & possible)
        os.umask(self.umask)


def _own_stdio(uid: int, gid: int) -> None:
    """Give the stdio pipes and files to the user, so that opening /dev/stdout works for it, as under runc and crun.

    A file keeps its group, which somebody chose (runc's reason); one that is not ours to give (read-only, of an id
    that the user namespace has not) stays what it is. Devices are everybody's, or the console's.
    """
    for fd in (0, 1, 2):
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            os.fchown(fd, uid, gid)
        elif stat.S_ISREG(mode):
            try:
                os.fchown(fd, uid, -1)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EROFS, errno.EINVAL):
                    raise


class DieWithShim(NamedTuple):
    """SIGKILL when the shim dies. After Become, since a change of user clears it (PR_SET_PDEATHSIG(2const))."""

    def describe(self) -> tuple[str, str]:
        return "set", "parent death signal"

    def execute(self, making: Making) -> None:
        processes.prctl(processes.PR_SET_PDEATHSIG, 9)


class Exec(NamedTuple):
    """Become the user's program: never returns."""

    args: tuple[str, ...]
    env: tuple[str, ...]

    def describe(self) -> tuple[str, str]:
        return "run", self.args[0]

    def execute(self, making: Making) -> None:
        self.guard(making)
        self.run(making)

    def environment(self, making: Making) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in (*self.env, *making.env) if "=" in entry)

    def candidates(self, environment: Mapping[str, str]) -> list[str]:
        """Where the program may be; what has a slash is a path, all else is looked for on the container's PATH."""
        program = self.args[0]
        if not program:
            raise RuntimeTrouble(Trouble("run", '""', "the command is empty", code=NOT_FOUND))
        if "/" in program:
            return [program]
        return [f"{directory or '.'}/{program}" for directory in environment.get("PATH", DEFAULT_PATH).split(":")]

    def guard(self, making: Making) -> None:
        """Refuse to run ourselves (CVE-2019-5736). Before a filter is loaded: it opens files."""
        if executables.OWN is None:
            return
        for candidate in self.candidates(self.environment(making)):
            if executables.is_own(candidate):
                cause = "it leads to the runtime itself"
                raise RuntimeTrouble(refusal(self.args[0], errno.EACCES, cause, NOT_EXECUTABLE))

    def run(self, making: Making) -> None:
        """execve(2), and no other system call until it failed."""
        environment = self.environment(making)
        program = self.args[0]
        refused: OSError | None = None
        for candidate in self.candidates(environment):
            try:
                os.execve(candidate, self.args, environment)
            except (FileNotFoundError, NotADirectoryError):
                if os.path.exists(candidate):  # it is there: its interpreter or loader is not
                    raise RuntimeTrouble(half_there(program)) from None
            except OSError as error:
                refused = refused or error
        if refused is not None:
            number = refused.errno or 0
            raise RuntimeTrouble(refusal(program, number, os.strerror(number).lower(), NOT_EXECUTABLE))
        raise RuntimeTrouble(not_found(program))


def candidates(program: str, environment: Mapping[str, str]) -> list[str]:
    """Where a program may lie: its own path, or each directory of the container's PATH."""
    if "/" in program:
        return [program]
    return [f"{directory or '.'}/{program}" for directory in environment.get("PATH", DEFAULT_PATH).split(":")]


def refusal(program: str, number: int, cause: str, code: int) -> Trouble:
    """A program that cannot be executed."""
    return Trouble("run", program, cause, errno=number, code=code)


def half_there(program: str) -> Trouble:
    """The file is there; what it names as its interpreter or loader is not."""
    return refusal(program, errno.ENOENT, "its interpreter is missing", NOT_FOUND)


def not_found(program: str) -> Trouble:
    """It is nowhere."""
    where = "" if "/" in program else "is it on the container's PATH?"
    return Trouble("run", program, "no such file or directory", where, errno.ENOENT, NOT_FOUND)


def early_steps(process: Process) -> list[Operation]:
    """What a process sets through the machine's /proc, before its root changes."""
    score: list[Operation] = [] if process.oom_score_adj is None else [SetOomScore(process.oom_score_adj)]
    return score + labels.early_steps(process)


def late_steps(process: Process, possible: int, common: Sequence[Operation] = ()) -> list[Operation]:
    """From inside the root to exec; `possible` as in Become, `common` are steps of every process of the container."""
    steps: list[Operation] = [SetRlimit(limit.type, limit.soft, limit.hard) for limit in process.rlimits]
    steps += [*common, *scheduling.own_steps(process)]
    if process.no_new_privileges:
        steps.append(NoNewPrivileges())
    if process.cwd != "/":
        steps.append(ChangeDirectory(process.cwd))
    sets = None
    if process.capabilities is not None:
        names = process.capabilities
        all_sets = (names.bounding, names.effective, names.inheritable, names.permitted, names.ambient)
        bits = [identity.mask(list(some)) for some in all_sets]
        sets = (bits[0], bits[1], bits[2], bits[3], bits[4])
    user = process.user
    umask = DEFAULT_UMASK if user.umask is None else user.umask
    steps.append(Become(user.uid, user.gid, user.additional_gids, umask, sets, possible))
    steps.append(DieWithShim())
    steps.append(Exec(process.args, process.env))
    return steps
