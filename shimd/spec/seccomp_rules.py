"""Rules about ``linux.seccomp``: names are libseccomp's, numbers what its filters can hold."""

from collections.abc import Callable, Iterator

from shimd.spec import names
from shimd.spec.errors import Finding
from shimd.spec.linux import Seccomp

SeccompRuleCheck = Callable[[Seccomp, str], Iterator[Finding]]

MAX_ERRNO_RET = 2**16 - 1  # SECCOMP_RET_DATA


def names_are_known(seccomp: Seccomp, at: str) -> Iterator[Finding]:
    """config-linux.md, "Seccomp": actions, architectures, flags and operators of its lists."""
    if seccomp.default_action not in names.SECCOMP_ACTIONS:
        yield Finding(f"{at}.defaultAction", f"unknown action {seccomp.default_action!a:.40}")
    for place, name in enumerate(seccomp.architectures):
        if name not in names.SECCOMP_ARCHITECTURES:
            yield Finding(f"{at}.architectures[{place}]", f"unknown architecture {name!a:.40}")
    for place, name in enumerate(seccomp.flags):
        if name not in names.SECCOMP_FLAGS:
            yield Finding(f"{at}.flags[{place}]", f"unknown flag {name!a:.40}")
    for place, rule in enumerate(seccomp.syscalls):
        if rule.action not in names.SECCOMP_ACTIONS:
            yield Finding(f"{at}.syscalls[{place}].action", f"unknown action {rule.action!a:.40}")
        for number, argument in enumerate(rule.args):
            if argument.op not in names.SECCOMP_OPERATORS:
                here = f"{at}.syscalls[{place}].args[{number}].op"
                yield Finding(here, f"unknown operator {argument.op!a:.40}")


def rules_name_calls(seccomp: Seccomp, at: str) -> Iterator[Finding]:
    """config-linux.md, "Seccomp", syscalls: at least one name; a system call has arguments 0 to 5."""
    for place, rule in enumerate(seccomp.syscalls):
        if not rule.names:
            yield Finding(f"{at}.syscalls[{place}].names", "is empty")
        for number, argument in enumerate(rule.args):
            if argument.arg_index > 5:
                here = f"{at}.syscalls[{place}].args[{number}].index"
                yield Finding(here, f"expected an integer from 0 to 5, got {argument.arg_index}")


def errnos_have_an_action(seccomp: Seccomp, at: str) -> Iterator[Finding]:
    """config-linux.md, "Seccomp", errnoRet: only with an action that returns one."""
    chosen = [(f"{at}.defaultErrnoRet", seccomp.default_errno_ret, seccomp.default_action)]
    for place, rule in enumerate(seccomp.syscalls):
        chosen.append((f"{at}.syscalls[{place}].errnoRet", rule.errno_ret, rule.action))
    for here, errno, action in chosen:
        if errno is None:
            continue
        if action not in names.SECCOMP_ACTIONS_WITH_ERRNO:
            yield Finding(here, f"{action} returns no errno", "SCMP_ACT_ERRNO and SCMP_ACT_TRACE do")
        elif errno > MAX_ERRNO_RET:
            yield Finding(here, f"expected an integer from 0 to {MAX_ERRNO_RET}, got {errno}")


def listeners_listen(seccomp: Seccomp, at: str) -> Iterator[Finding]:
    """config-linux.md, "Seccomp", listenerPath: required to notify, absolute, and only then metadata."""
    path = seccomp.listener_path
    if path and not path.startswith("/"):
        yield Finding(f"{at}.listenerPath", f"expected an absolute path, got {path!a:.80}")
    if seccomp.listener_metadata and not path:
        yield Finding(f"{at}.listenerMetadata", "is given without listenerPath")
    if seccomp.default_action == "SCMP_ACT_NOTIFY":
        # The runtime's own sendmsg of the listener's fd would wait for that very listener.
        yield Finding(f"{at}.defaultAction", "SCMP_ACT_NOTIFY cannot be the default")
    for place, rule in enumerate(seccomp.syscalls):
        if rule.action != "SCMP_ACT_NOTIFY":
            continue
        if not path:
            yield Finding(f"{at}.syscalls[{place}].action", "SCMP_ACT_NOTIFY needs listenerPath")
        if "write" in rule.names:
            # Under the filter the runtime itself hands startContainer hooks their state, and says what failed.
            here = f"{at}.syscalls[{place}].action"
            yield Finding(here, "SCMP_ACT_NOTIFY cannot be used for the write syscall", "runc refuses it as well")


SECCOMP_RULES: tuple[SeccompRuleCheck, ...] = (
    names_are_known,
    rules_name_calls,
    errnos_have_an_action,
    listeners_listen,
)
