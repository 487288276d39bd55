"""linux.seccomp as operations (config-linux.md, "Seccomp"): compiled with the plan, loaded as late as may be.

    IntroduceListener   birth: connect to listenerPath while the machine's paths are there
    LoadSeccomp         process: seccomp(2); hands the listener's fd to whom the first step connected to
    ConfinedExec        process: LoadSeccomp right before exec, where no_new_privs lets everybody load a filter; a
                        startContainer hook loads it for itself, unless there is a listener (waiting.Await)

Without no_new_privs the load needs CAP_SYS_ADMIN and stands before capabilities are dropped: then the filter must allow
what is left to do (setresuid, setresgid, setgroups, capset, prctl, umask, newfstatat, fchown, sendto, execve, and where
the runtime is not sealed, linux/executables.py, openat, read and close), as it must under runc.
"""

from __future__ import annotations

import _thread
import errno
import functools
import os
from _json import encode_basestring_ascii
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from collections.abc import Mapping
from typing import NamedTuple

from shimd.container.identity import Exec
from shimd.container.making import Making, Operation
from shimd.errors import RuntimeTrouble, Trouble
from shimd.linux import filters, seccomp
from shimd.spec.linux import Seccomp, SeccompRule
from shimd.wire import channel

EPERM = errno.EPERM
ENOSYS = seccomp.ERRNO | errno.ENOSYS
DELIVERY_SECONDS = 30.0
PLACE = "$.linux.seccomp"
# Under these a call that no rule names goes on; under all others a young kernel's calls must seem to be missing.
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
# crun's annotation; it can only make a start fail, so it may come from anywhere.
STRICT = "run.oci.seccomp_fail_unknown_syscall"
SECCOMP_FD = "seccompFd"  # config-linux.md, "Container Process State": its name among `fds`


class IntroduceListener(NamedTuple):
    """Connect to the agent, and note what only the machine's /proc can say: this process's pid outside."""

    path: str

    def describe(self) -> tuple[str, str]:
        return "connect to seccomp listener", self.path

    def execute(self, making: Making) -> None:
        agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
        try:
            try:
                agent.connect(self.path)
            except OSError as error:  # in the words that runc's callers look for
                cause = f"failed to connect with seccomp agent: {error.strerror}"
                raise OSError(error.errno, cause, self.path) from None
            _acquaintances[making.id] = (agent.detach(), int(os.readlink("/proc/self")))
        finally:
            agent.close()


# (fd of the connection, own pid outside) by container. A process makes one start at most, and this is the way from
# its first step to its last.
_acquaintances: dict[str, tuple[int, int]] = {}


class Listener(NamedTuple):
    """Whom the listener's fd goes to, and what is said of the container."""

    metadata: str
    oci_version: str
    annotations: tuple[tuple[str, str], ...]

    def hand_over(self, making: Making, listener: int) -> None:
        """One message: the Container Process State, and the fd by SCM_RIGHTS."""
        connection, pid = _acquaintances.pop(making.id)
        agent = socket(AF_UNIX, SOCK_STREAM, 0, connection)
        state: dict[str, object] = {
            "ociVersion": self.oci_version,
            "id": making.id,
            "bundle": "",
            **getattr(making, "state", {}),
            "status": "creating",
            "pid": pid,
            "annotations": dict(self.annotations),
        }
        said = {"ociVersion": self.oci_version, "fds": [SECCOMP_FD], "pid": pid, "state": state}
        if self.metadata:
            said["metadata"] = self.metadata
        try:
            agent.sendmsg([_json(said).encode()], channel.rights([listener]))
        finally:
            agent.close()


def _json(value: object) -> str:
    """`import json` would cost a command as much as the interpreter's start, and after fork nothing is imported."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_json(str(key))}: {_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_json, value)) + "]"
    return encode_basestring_ascii(value) if isinstance(value, str) else str(int(str(value)))


class LoadSeccomp(NamedTuple):
    """A compiled filter; `flags` are seccomp(2)'s."""

    program: bytes
    flags: int
    listener: Listener | None = None

    def describe(self) -> tuple[str, str]:
        return "load", "seccomp filter"

    def execute(self, making: Making) -> None:
        if self.listener is None:
            seccomp.load(self.program, self.flags)
        else:
            self._load_with_listener(self.listener, making)

    def _load_with_listener(self, listener: Listener, making: Making) -> None:
        """By a second thread, which the filter does not bind: it may well ask the agent about sendmsg(2) itself.

        The two wait for each other by futex(2) and nothing else.
        """
        loaded, delivered = _thread.allocate_lock(), _thread.allocate_lock()
        loaded.acquire()
        delivered.acquire()
        fds: list[int] = []
        refusals: list[OSError] = []

        def deliver() -> None:
            loaded.acquire()
            try:
                for fd in fds:
                    listener.hand_over(making, fd)
            except OSError as error:
                refusals.append(error)
            finally:
                for fd in fds:
                    os.close(fd)  # the agent's alone: whoever else holds it keeps calls waiting for a dead agent
                delivered.release()

        _thread.start_new_thread(deliver, ())
        try:
            fds.append(seccomp.load(self.program, self.flags & ~seccomp.TSYNC | seccomp.NEW_LISTENER))
        finally:
            loaded.release()
            delivered.acquire()
        for refusal in refusals:
            raise refusal


class ConfinedExec(NamedTuple):
    """Load the filter, then run the program: execve(2) is all that the filter must allow."""

    load: LoadSeccomp
    exec: Exec

    def describe(self) -> tuple[str, str]:
        return self.exec.describe()

    def execute(self, making: Making) -> None:
        self.exec.guard(making)
        self.confine(making)
        self.exec.run(making)

    def confine(self, making: Making) -> None:
        """The first half, for who has hooks to run under the filter."""
        try:
            self.load.execute(making)
        except OSError as error:
            cause = (error.strerror or str(error)).lower()
            raise RuntimeTrouble(Trouble(*self.load.describe(), cause, errno=error.errno or 0)) from error


class Filter(NamedTuple):
    """What a container's processes do about seccomp: `early` in the machine's root, `load` in the container's."""

    early: tuple[Operation, ...]
    load: LoadSeccomp | None

    def placed(self, steps: list[Operation], no_new_privileges: bool) -> list[Operation]:
        """`steps` of a process, which end with Become, DieWithShim and Exec, with the load where it belongs."""
        if self.load is None:
            return steps
        *before, become, die, last = steps
        if not no_new_privileges:
            return [*before, self.load, become, die, last]
        assert isinstance(last, Exec)
        return [*before, become, die, ConfinedExec(self.load, last)]


NO_FILTER = Filter((), None)


def compile_filter(wish: Seccomp | None, oci_version: str, annotations: Mapping[str, str]) -> Filter:
    """The filter of a config. RuntimeTrouble names what cannot be had."""
    if wish is None:
        return NO_FILTER
    flags = 0
    for name in wish.flags:
        flags |= seccomp.FLAGS[name]
    if STRICT in annotations:
        _refuse_unknown(wish)
    program = compiled(wish._replace(flags=(), listener_path="", listener_metadata=""))
    if not any(rule.action == "SCMP_ACT_NOTIFY" for rule in wish.syscalls):
        return Filter((), LoadSeccomp(program, flags))
    listener = Listener(wish.listener_metadata, oci_version, tuple(sorted(annotations.items())))
    return Filter((IntroduceListener(wish.listener_path),), LoadSeccomp(program, flags, listener))


def _refuse_unknown(wish: Seccomp) -> None:
    for place, rule in enumerate(wish.syscalls):
        for name in rule.names:
            if seccomp.resolve(name) == -1 and name not in seccomp.YOUNG_CALLS:
                cause = f"nobody here knows system call {name!a:.60}, and annotation {STRICT} is set"
                raise RuntimeTrouble(Trouble("compile", f"{PLACE}.syscalls[{place}]", cause))


@functools.lru_cache(64)
def compiled(wish: Seccomp) -> bytes:
    """The program of a profile: 10 ms for one as long as Docker's, then from memory."""
    try:
        default = _returns(wish.default_action, wish.default_errno_ret)
        native = seccomp.native_architecture()
        architectures = tuple(dict.fromkeys((native, *wish.architectures)))
        rules, young = _sort(wish, default)
        program = filters.unpack(seccomp.compile_filter(default, architectures, rules))
        packed = filters.pack(_squeezed(program, wish, architectures, young))
    except seccomp.Unavailable as error:
        hint = "install libseccomp 2.5 or later: Debian's libseccomp2, Fedora's libseccomp"
        raise RuntimeTrouble(Trouble("compile", PLACE, f"there is no libseccomp here: {error}", hint)) from error
    except OSError as error:
        cause = f"{error.filename or 'the profile'}: {(error.strerror or str(error)).lower()}"
        raise RuntimeTrouble(Trouble("compile", PLACE, cause, errno=error.errno or 0)) from error
    except KeyError as error:
        raise RuntimeTrouble(Trouble("compile", PLACE, f"no filters are known for machine {error}")) from error
    except filters.Unreadable as error:
        raise RuntimeTrouble(Trouble("compile", PLACE, str(error), "make the profile shorter")) from error
    seccomp.program_of(packed)
    return packed


def _returns(action: str, errno_ret: int | None) -> int:
    base = seccomp.ACTIONS[action]
    if base in seccomp.WITH_DATA:
        return base | (EPERM if errno_ret is None else errno_ret)
    return base


def _sort(wish: Seccomp, default: int) -> tuple[list[seccomp.Rule], list[tuple[str, int]]]:
    """(rules for libseccomp, young calls with what they return), without those that say what the default says.

    A name that nobody knows is passed over, as by runc and crun: engines ship profiles that name the calls of kernels
    and architectures to come, and what has no number here cannot be called. But a young call that a permissive profile
    means to forbid by its arguments is there, and would go on: that is refused.
    """
    rules: list[seccomp.Rule] = []
    young: list[tuple[str, int]] = []
    for place, rule in enumerate(wish.syscalls):
        returns = _returns(rule.action, rule.errno_ret)
        if returns == default:
            continue
        for name in rule.names:
            if seccomp.resolve(name) != -1:
                rules += [seccomp.Rule(name, returns, arguments) for arguments in _alternatives(rule)]
            elif name in seccomp.YOUNG_CALLS and not rule.args:
                young.append((name, returns))
            elif name in seccomp.YOUNG_CALLS and wish.default_action in PERMISSIVE:
                cause = f"this libseccomp knows no system call {name!a:.60}, and cannot compare its arguments"
                raise RuntimeTrouble(Trouble("compile", f"{PLACE}.syscalls[{place}]", cause))
    return rules, young


def _alternatives(rule: SeccompRule) -> list[tuple[seccomp.Argument, ...]]:
    """All comparisons at once; but several of one argument are alternatives, as runc and crun read them."""
    arguments = tuple(seccomp.Argument(one.arg_index, one.op, one.value, one.value_two) for one in rule.args)
    if len({one.place for one in arguments}) < len(arguments):
        return [(one,) for one in arguments]
    return [arguments]


def _squeezed(
    program: list[filters.Instruction], wish: Seccomp, architectures: tuple[str, ...], young: list[tuple[str, int]]
) -> list[filters.Instruction]:
    """The shortest program that decides so; with it the calls that libseccomp does not know.

    What is newer than the newest call that a profile names fails with ENOSYS under a restrictive default, as under
    runc: its author cannot have meant it, and a C library that gets EPERM does not try the older call.
    """
    decisions = filters.decide(program)
    ranges = decisions.ranges
    names = sorted({name for rule in wish.syscalls for name in rule.names})
    for architecture in architectures:
        value = seccomp.audit_value(architecture)
        if value not in ranges:
            continue
        last = max((seccomp.resolve_on(architecture, name) for name in names), default=-1)
        x32 = architecture == "SCMP_ARCH_X32"
        end = filters.LAST_NUMBER if x32 or architecture != "SCMP_ARCH_X86_64" else seccomp.X32_BIT - 1
        if wish.default_action not in PERMISSIVE and last >= 0:
            ranges[value] = filters.overlay(ranges[value], last + 1, end, filters.Verdict(ENOSYS))
        for name, returns in young:
            number = seccomp.resolve_on(architecture, name)
            ranges[value] = filters.overlay(ranges[value], number, number, filters.Verdict(returns))
    native = seccomp.audit_value(architectures[0])
    ordered = {native: ranges[native], **ranges} if native in ranges else ranges
    return filters.assemble(decisions._replace(ranges=ordered))
