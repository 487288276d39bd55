"""config-linux.md, "Seccomp", told by a process that tries the calls."""

import array
import errno
import fcntl
import json
import os
import platform
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.bundle import Bundle

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of its calls are x86-64's"),
]

GETCPU, SCHED_YIELD, ALARM = 309, 24, 37
SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND = 0xC0502100, 0xC0182101
# what a static program and the last steps of a runtime, be it in C, Go or Python, live on
CALLS = """
    execve execveat exit exit_group write read brk mmap munmap mprotect close open openat openat2 arch_prctl
    set_tid_address set_robust_list rseq prlimit64 readlink readlinkat getrandom newfstatat fstat stat futex
    rt_sigaction rt_sigprocmask rt_sigreturn prctl capset capget setgroups setuid setgid setresuid setresgid chdir
    getcwd fcntl lseek getpid gettid tgkill kill nanosleep clock_nanosleep sigaltstack madvise epoll_ctl epoll_pwait
    pread64 getdents64 getppid sched_getaffinity uname access faccessat2 statfs fstatfs close_range dup dup2 dup3
    ioctl umask sendmsg recvmsg sendto recvfrom poll ppoll sched_yield
"""
OPERATORS = {  # op, the value it is compared with, arguments that match and that do not
    "SCMP_CMP_NE": (5, [4, 6], [5]),
    "SCMP_CMP_LT": (5, [4], [5, 6]),
    "SCMP_CMP_LE": (5, [4, 5], [6]),
    "SCMP_CMP_EQ": (5, [5], [4, 6]),
    "SCMP_CMP_GE": (5, [5, 6], [4]),
    "SCMP_CMP_GT": (5, [6], [4, 5]),
}


def policy(bundle: Bundle, *rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> Bundle:
    """Sets the property; a rule is for one or two calls that programs can live without."""
    bundle.linux["seccomp"] = {"defaultAction": default, "syscalls": list(rules), **more}
    return bundle


def rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names or ("sched_yield",)), "action": action, **more}


def tried(bundle: Bundle, number: int = SCHED_YIELD, *arguments: int) -> str:
    """What comes of a call."""
    words = [str(value) for value in arguments]
    return bundle.does("call", str(number), *words).report()[f"call {number}"]


def test_no_filter_by_default(bundle: Bundle) -> None:
    """config-linux.md, Seccomp: OPTIONAL."""
    assert bundle.report()["status Seccomp"] == "0"


def test_a_filter_is_there(bundle: Bundle) -> None:
    """config-linux.md, Seccomp: the process runs with a filter."""
    assert policy(bundle, rule("SCMP_ACT_ERRNO")).report()["status Seccomp"] == "2"


def test_errno_is_eperm(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, errnoRet: the default is EPERM."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO"))) == "EPERM"


def test_errno_ret(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, errnoRet."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO", errnoRet=errno.ENOANO))) == "ENOANO"


def test_errno_ret_of_an_action_without_one(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, errnoRet: when the action does not support it, the runtime MUST fail."""
    policy(bundle, rule("SCMP_ACT_KILL", errnoRet=1)).refused()


def test_default_errno_ret(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, defaultErrnoRet: of all calls that no rule names."""
    allowed = [name for name in CALLS.split() if name != "sched_yield"]
    policy(bundle, rule("SCMP_ACT_ALLOW", *allowed), default="SCMP_ACT_ERRNO", defaultErrnoRet=errno.ENOSYS)
    assert tried(bundle) == "ENOSYS"


@pytest.mark.parametrize("action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP"])
def test_actions_that_end(bundle: Bundle, action: str) -> None:
    """config-linux.md, Seccomp, action: the process does not survive the call (SIGSYS)."""
    done = policy(bundle, rule(action)).does("call", str(SCHED_YIELD)).run()
    assert done.code == 128 + 31
    assert "call" not in done.out


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_actions_that_let_through(bundle: Bundle, action: str) -> None:
    """config-linux.md, Seccomp, action."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO", "alarm"), rule(action))) == "0"


def test_trace_without_a_tracer(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, action: SCMP_ACT_TRACE, with nobody there, is ENOSYS (seccomp(2))."""
    assert tried(policy(bundle, rule("SCMP_ACT_TRACE"))) == "ENOSYS"


@pytest.mark.parametrize("op", OPERATORS)
def test_operators(bundle: Bundle, op: str) -> None:
    """config-linux.md, Seccomp, args: index, value, op."""
    value, matching, others = OPERATORS[op]
    arguments = [{"index": 0, "value": value, "op": op}]
    policy(bundle, rule("SCMP_ACT_ERRNO", "alarm", errnoRet=errno.ENOANO, args=arguments))
    words = [word for number in (*matching, *others) for word in ("call", str(ALARM), str(number), ",")]
    lines = bundle.does(*words[:-1]).run().ok().out.splitlines()
    assert [line.endswith("=ENOANO") for line in lines] == [True] * len(matching) + [False] * len(others)


def test_masked_equal(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, args: valueTwo is compared with what the mask leaves."""
    arguments = [{"index": 0, "value": 0x0F, "valueTwo": 0x05, "op": "SCMP_CMP_MASKED_EQ"}]
    policy(bundle, rule("SCMP_ACT_ERRNO", "alarm", args=arguments))
    assert tried(bundle, ALARM, 0x15) == "EPERM"
    assert tried(bundle, ALARM, 0x16) == "0"


def test_several_arguments(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, args: all of them have to hold."""
    arguments = [{"index": index, "value": 1, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    policy(bundle, rule("SCMP_ACT_ERRNO", "getpriority", errnoRet=errno.ENOANO, args=arguments))
    assert tried(bundle, 140, 1, 1) == "ENOANO"
    assert tried(bundle, 140, 1, 0) != "ENOANO"


@pytest.mark.parametrize("flag", ["LOG", "SPEC_ALLOW", "TSYNC"])
def test_flags(bundle: Bundle, flag: str) -> None:
    """config-linux.md, Seccomp, flags."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO"), flags=[f"SECCOMP_FILTER_FLAG_{flag}"])) == "EPERM"


def test_unknown_flag_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: MUST be an error."""
    policy(bundle, rule("SCMP_ACT_ERRNO"), flags=["SECCOMP_FILTER_FLAG_MOON"]).refused()


@pytest.mark.parametrize(
    # those of the same byte order: libseccomp refuses to mix
    "arch",
    ["X86", "X86_64", "X32", "ARM", "AARCH64", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC64LE", "RISCV64"],
)
def test_architectures(bundle: Bundle, arch: str) -> None:
    """config-linux.md, Seccomp, architectures: names of libseccomp, beside the machine's own."""
    policy(bundle, rule("SCMP_ACT_ERRNO"), architectures=["SCMP_ARCH_X86_64", f"SCMP_ARCH_{arch}"])
    assert tried(bundle) == "EPERM"


def test_unknown_calls_are_no_error(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, names: of another kernel; every engine's profile has some."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO", "sched_yield", "call_of_the_future"))) == "EPERM"


WRONG: dict[str, dict[str, Any]] = {
    "action": {"syscalls": [rule("SCMP_ACT_MOON")]},
    "default": {"defaultAction": "SCMP_ACT_MOON"},
    "architecture": {"architectures": ["SCMP_ARCH_MOON"]},
    "operator": {"syscalls": [rule("SCMP_ACT_ERRNO", args=[{"index": 0, "value": 1, "op": "SCMP_CMP_MOON"}])]},
    "index": {"syscalls": [rule("SCMP_ACT_ERRNO", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}])]},
    "no names": {"syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]},
    "metadata alone": {"listenerMetadata": "whose"},
}


def test_a_listener_and_no_rule(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, syscalls: OPTIONAL, also beside a listener."""
    bundle.process["noNewPrivileges"] = True
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(bundle.path / "nobody")}
    assert tried(bundle) == "0"


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_values_are_errors(bundle: Bundle, wrong: str) -> None:
    """config.md, Valid values, and config-linux.md, Seccomp: MUST be errors."""
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", **WRONG[wrong]}
    bundle.refused()


def whole(text: bytes) -> bool:
    """Is this a JSON document?"""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class Agent:
    """A listener that takes one container process state and answers its first calls with ENOANO."""

    def __init__(self, path: str) -> None:
        self.state: dict[str, Any] = {}
        self.rest = b"not read"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            caller, _ = self._listener.accept()
        except OSError:
            return
        held = array.array("i")
        with caller:
            text, ancillary, _, _ = caller.recvmsg(65536, socket.CMSG_SPACE(8 * held.itemsize))
            for _, _, data in ancillary:
                held.frombytes(data[: len(data) - len(data) % held.itemsize])
            while not whole(text):
                text += caller.recv(65536)
            self.state = json.loads(text)
            self._answer(held)
            caller.settimeout(5)
            try:
                self.rest = caller.recv(65536)
            except TimeoutError:
                self.rest = b"still open"

    def _answer(self, held: "array.array[int]") -> None:
        fd = held[self.state["fds"].index("seccompFd")]
        notification = bytearray(80)
        try:
            fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, notification)
            identity = struct.unpack_from("=Q", notification)[0]
            fcntl.ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, struct.pack("=QqiI", identity, 0, -errno.ENOANO, 0))
        finally:
            for number in held:
                os.close(number)

    def close(self) -> None:
        """Waits for what was begun, and ends the wait for what was not."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._thread.join(30)


@pytest.fixture
def agent(bundle: Bundle) -> Iterator[Agent]:
    made = Agent(str(bundle.path / "agent"))
    yield made
    made.close()


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_notify(bundle: Bundle, agent: Agent, no_new_privileges: bool) -> None:
    """config-linux.md, Seccomp, listenerPath, and The Container Process State: one state, with seccompFd."""
    bundle.process["noNewPrivileges"] = no_new_privileges
    policy(bundle, rule("SCMP_ACT_NOTIFY"), listenerPath=str(bundle.path / "agent"), listenerMetadata="whose")
    assert tried(bundle) == "ENOANO"
    state = agent.state
    assert (state["metadata"], state["fds"]) == ("whose", ["seccompFd"])
    assert state["ociVersion"]
    assert state["pid"] > 0
    assert state["state"]["id"].startswith(bundle.path.name)
    assert state["state"]["bundle"] == str(bundle.path)


def test_the_connection_is_closed(bundle: Bundle, agent: Agent) -> None:
    """config-linux.md, Seccomp, listenerPath: exactly one state per connection, which MUST be closed after it."""
    policy(bundle, rule("SCMP_ACT_NOTIFY"), listenerPath=str(bundle.path / "agent"))
    tried(bundle)
    agent.close()
    assert agent.rest == b""


def test_notify_with_no_listener(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, listenerPath: if sending fails, an error MUST be generated."""
    policy(bundle, rule("SCMP_ACT_NOTIFY"), listenerPath=str(bundle.path / "nobody")).run().refused()


def test_notify_without_a_path(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, listenerPath: the action cannot be applied without one."""
    policy(bundle, rule("SCMP_ACT_NOTIFY")).run().refused()


def test_listener_path_without_notify_is_ignored(bundle: Bundle) -> None:
    """config-linux.md, Seccomp, listenerPath: if no SCMP_ACT_NOTIFY is used, this value is ignored."""
    assert tried(policy(bundle, rule("SCMP_ACT_ERRNO"), listenerPath=str(bundle.path / "nobody"))) == "EPERM"
