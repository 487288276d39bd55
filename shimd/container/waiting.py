"""The pause between create and start, and what a container without a shim does on either side of it.

Two fifos of the state directory, `start` and `outcome`, come as fds that are open for reading and writing, so that
neither ever lacks an end while init holds them:

    start command                        init
      | opens outcome to read              | reads start, for as long as it takes
      | -- a byte into start ------------> |
      |                                    | startContainer hooks, exec
      | <- EOF on outcome ---------------- | exec closed it: the program runs (or init was killed)
      | <- words, then EOF --------------- | or: why it does not run; after HOOK it was a hook that failed

Whether `start` has a reader is also how others tell created from running (open(2), ENXIO).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, NoReturn

from shimd.container import identity, seccomp
from shimd.container.hooks import ContainerHooks
from shimd.container.making import Making, Operation
from shimd.errors import NOT_EXECUTABLE, NOT_FOUND, RUNTIME_FAILED, RuntimeTrouble, Trouble
from shimd.linux import signals
from shimd.spec.config import Hook

SIGPIPE = 13
HOOK = b"\0"  # before the words; a path or an argument cannot hold it
PIPE_BUF = 4096  # so much is written at once or not at all (pipe(7))


class FindProgram(NamedTuple):
    """Say at create what exec would say at start. The words are those by which callers know 126 and 127."""

    program: str
    path: str

    def describe(self) -> tuple[str, str]:
        return "find", self.program

    def execute(self, making: Making) -> None:
        if not self.program:
            raise RuntimeTrouble(Trouble("exec:", '""', "executable file not found in $PATH", "", 2, NOT_FOUND))
        if "/" in self.program:
            number = _why_not(self.program)
        else:
            found = [_why_not(f"{directory or '.'}/{self.program}") for directory in self.path.split(":")]
            number = 0 if 0 in found else errno.EACCES if errno.EACCES in found else errno.ENOENT
        if number:
            raise RuntimeTrouble(self._trouble(number))

    def _trouble(self, number: int) -> Trouble:
        quoted = f'"{self.program}"'
        if number == errno.ENOENT and "/" not in self.program:
            return Trouble("exec:", quoted, "executable file not found in $PATH", "", number, NOT_FOUND)
        code = NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        cause = os.strerror(number).lower()
        if number == errno.ENOENT:
            cause = f"stat {self.program}: {cause}"
        return Trouble("exec:", quoted, cause, "", number, code)


def _why_not(path: str) -> int:
    """The errno for which a path is no program; 0 if it is one, as far as can be seen."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return errno.EISDIR
    except OSError as error:
        # No file system says EPERM to stat(2): it is the program's own filter. Then exec has to tell.
        return 0 if error.errno == errno.EPERM else error.errno or errno.EIO
    # With the effective ids: they are what execve(2) judges by. A filter older than faccessat2(2) refuses that one.
    allowed = os.access(path, os.X_OK, effective_ids=True) or os.access(path, os.X_OK)
    return 0 if allowed else errno.EACCES


class NothingToRun(NamedTuple):
    """In a program's place where the config has no process: it cannot be started."""

    def describe(self) -> tuple[str, str]:
        return "run", "nothing"

    def execute(self, making: Making) -> None:
        raise RuntimeTrouble(Trouble("run", "$.process", "it is missing in the config of this container"))


class Await(NamedTuple):
    """Wait for `start`, run its hooks, become the program. Stands where Exec stands under a shim."""

    hooks: tuple[Hook, ...]
    run: identity.Exec | seccomp.ConfinedExec | NothingToRun
    env: tuple[str, ...] = ()
    """The process's own, for hooks that bring none."""

    def describe(self) -> tuple[str, str]:
        return "await start, then run", self.run.describe()[1]

    def execute(self, making: Making) -> None:
        start, outcome = making.start_fds
        os.read(start, 1)
        try:
            run = self._after_hooks(making) if self.hooks else self.run
        except RuntimeTrouble as error:
            _give_up(outcome, error.trouble, HOOK)
        except OSError as error:
            _give_up(outcome, Trouble("run", "startContainer hooks", (error.strerror or str(error)).lower()), HOOK)
        try:
            keep(making)
            run.execute(making)
        except RuntimeTrouble as error:
            _give_up(outcome, error.trouble)
        except OSError as error:
            _give_up(outcome, Trouble("run", self.run.describe()[1], (error.strerror or str(error)).lower()))

    def _after_hooks(self, making: Making) -> identity.Exec | seccomp.ConfinedExec | NothingToRun:
        if isinstance(self.run, NothingToRun):
            ContainerHooks("startContainer", self.hooks, self.env).execute(making)
            return self.run
        return after_hooks(self.run, self.hooks, self.env, making)


def after_hooks(
    run: identity.Exec | seccomp.ConfinedExec, hooks: tuple[Hook, ...], env: tuple[str, ...], making: Making
) -> identity.Exec | seccomp.ConfinedExec:
    """What is left to do once the startContainer hooks have run, each under the program's filter."""
    steps = ContainerHooks("startContainer", hooks, env)
    if not isinstance(run, seccomp.ConfinedExec):  # a filter that there is was loaded before
        steps.execute(making)
        return run
    if run.load.listener is None:
        steps._replace(confine=run.load).execute(making)
        return run
    # The agent knows one listener a start: it is init that loads the filter, and its hooks inherit it.
    run.confine(making)
    steps.execute(making)
    return run.exec


class HookedExec(NamedTuple):
    """Run the startContainer hooks, become the program. Stands where Exec stands, for who waits for no `start`."""

    hooks: tuple[Hook, ...]
    run: identity.Exec | seccomp.ConfinedExec

    def describe(self) -> tuple[str, str]:
        return self.run.describe()

    def execute(self, making: Making) -> None:
        run = self.run.exec if isinstance(self.run, seccomp.ConfinedExec) else self.run
        env = tuple(f"{name}={value}" for name, value in run.environment(making).items())
        after_hooks(self.run, self.hooks, env, making).execute(making)


def _give_up(outcome: int, trouble: Trouble, mark: bytes = b"") -> NoReturn:
    """The command that bore us went long ago: tell the one that said start, and whoever reads our stderr."""
    signals.ignore(SIGPIPE)
    words = str(trouble).encode(errors="replace")[: PIPE_BUF - 1]
    for fd, text in ((outcome, mark + words), (2, words + b"\n")):
        try:
            os.write(fd, text)
        except OSError:
            continue  # nobody reads there; the exit code still says something
    os._exit(trouble.code or RUNTIME_FAILED)


class KeepFds(NamedTuple):
    """Before exec: let the program inherit the fds that the caller named (--preserve-fds, LISTEN_FDS)."""

    def describe(self) -> tuple[str, str]:
        return "keep", "inherited file descriptors"

    def execute(self, making: Making) -> None:
        keep(making)


def keep(making: Making) -> None:
    """Undo close-on-exec for the caller's fds."""
    for fd in making.kept_fds:
        os.set_inheritable(fd, True)


def search_path(environment: tuple[str, ...]) -> str:
    """PATH of a program's environment; the last one counts, as it does for Exec."""
    path = identity.DEFAULT_PATH
    for entry in environment:
        if entry.startswith("PATH="):
            path = entry[5:]
    return path


def without_shim(steps: tuple[Operation, ...] | list[Operation], *, keyring: bool) -> list[Operation]:
    """Process steps for a program whose parent goes before it does: no parent death signal."""
    left_out: tuple[type, ...] = (identity.DieWithShim,) if keyring else (identity.DieWithShim, identity.JoinKeyring)
    return [step for step in steps if not isinstance(step, left_out)]
