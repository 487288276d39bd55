"""Rules about ``process``: for the config's, and for the process document of an exec."""

from collections.abc import Callable, Iterator

from shimd.spec import names
from shimd.spec.config import Process, Scheduler
from shimd.spec.errors import Finding
from shimd.spec.lists import is_cpu_list

ProcessRule = Callable[[Process, str], Iterator[Finding]]

CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def cwd_is_absolute(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Process", cwd: an absolute path."""
    if not process.cwd.startswith("/"):
        yield Finding(f"{at}.cwd", f"expected an absolute path, got {process.cwd!a:.80}")


def args_are_given(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Process", args: required on POSIX, at least one entry."""
    if not process.args:
        yield Finding(f"{at}.args", "is empty", "its first entry is the program to run")


def env_has_names(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Process", env: entries as in environ(7), NAME=value."""
    for place, entry in enumerate(process.env):
        if "=" not in entry[1:]:
            yield Finding(f"{at}.env[{place}]", "is not of the form NAME=value", fatal=False)


def umask_is_a_mode(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "User", umask: umask(2) keeps nine bits."""
    umask = process.user.umask
    if umask is not None and umask > 0o777:
        yield Finding(f"{at}.user.umask", f"expected at most 511, got {umask}", "decimal 511 is octal 0777")


def rlimits_are_known(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "POSIX process", rlimits: types of getrlimit(2), each once, soft within hard."""
    seen = set()
    for place, rlimit in enumerate(process.rlimits):
        here = f"{at}.rlimits[{place}]"
        if rlimit.type not in names.RLIMITS:
            yield Finding(f"{here}.type", f"unknown limit {rlimit.type!a:.80}", "as in RLIMIT_NOFILE")
        if rlimit.type in seen:
            yield Finding(f"{here}.type", f"{rlimit.type} is listed twice")
        seen.add(rlimit.type)
        if rlimit.soft > rlimit.hard:
            yield Finding(f"{here}.soft", f"{rlimit.soft} is above the hard limit {rlimit.hard}")


def capabilities_can_be_granted(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Linux Process", capabilities: what cannot be granted is told, and is no reason to fail."""
    held = process.capabilities
    if held is None:
        return
    for name in CAPABILITY_SETS:
        for place, capability in enumerate(getattr(held, name)):
            if capability not in names.CAPABILITIES:
                problem = f"unknown capability {capability!a:.80}, left out"
                yield Finding(f"{at}.capabilities.{name}[{place}]", problem, fatal=False)
    beyond = names.CAPABILITIES.intersection(held.effective).difference(held.permitted)
    if beyond:
        problem = f"{', '.join(sorted(beyond))} not in the permitted set, not granted"
        yield Finding(f"{at}.capabilities.effective", problem, fatal=False)
    raisable = set(held.permitted).intersection(held.inheritable)
    beyond = names.CAPABILITIES.intersection(held.ambient).difference(raisable)
    if beyond:
        problem = f"{', '.join(sorted(beyond))} not in both permitted and inheritable, not granted"
        yield Finding(f"{at}.capabilities.ambient", problem, fatal=False)


def oom_score_is_in_range(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Linux Process", oomScoreAdj: proc(5) takes -1000 to 1000."""
    score = process.oom_score_adj
    if score is not None and not -1000 <= score <= 1000:
        yield Finding(f"{at}.oomScoreAdj", f"expected an integer from -1000 to 1000, got {score}")


def scheduler_is_possible(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Linux Process", scheduler: names of the spec, numbers that sched_setattr(2) takes."""
    wanted = process.scheduler
    if wanted is None:
        return
    here = f"{at}.scheduler"
    if wanted.policy not in names.SCHEDULER_POLICIES:
        yield Finding(f"{here}.policy", f"unknown policy {wanted.policy!a:.80}", "as in SCHED_OTHER")
    for place, flag in enumerate(wanted.flags):
        if flag not in names.SCHEDULER_FLAGS:
            yield Finding(f"{here}.flags[{place}]", f"unknown flag {flag!a:.80}")
    if not -20 <= wanted.nice <= 19:
        yield Finding(f"{here}.nice", f"expected an integer from -20 to 19, got {wanted.nice}")
    if wanted.policy in names.REALTIME_POLICIES and not 1 <= wanted.priority <= 99:
        yield Finding(f"{here}.priority", f"{wanted.policy} takes 1 to 99, got {wanted.priority}")
    if wanted.policy not in names.REALTIME_POLICIES and wanted.priority:
        yield Finding(f"{here}.priority", f"{wanted.policy} takes no priority", "SCHED_FIFO and SCHED_RR do")
    if wanted.policy == "SCHED_DEADLINE":
        for problem in _deadline_problems(wanted):
            yield Finding(here, f"sched_setattr: `SCHED_DEADLINE` {problem}", "in nanoseconds")


def _deadline_problems(wanted: Scheduler) -> Iterator[str]:
    """sched_setattr(2): 0 < runtime <= deadline <= period; a period of 0 is the deadline."""
    runtime, deadline, period = wanted.runtime, wanted.deadline, wanted.period
    if runtime is None or deadline is None:
        yield "requires `runtime`" if runtime is None else "requires `deadline`"
        return
    for name, value in (("runtime", runtime), ("deadline", deadline)):
        if not value:
            yield f"{name} must be greater than 0"
    if runtime > deadline:
        yield f"runtime {runtime} must be <= deadline {deadline}"
    if period and deadline > period:
        yield f"deadline {deadline} must be <= period {period}"


def io_priority_is_known(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Linux Process", ioPriority: three classes, levels 0 to 7."""
    wanted = process.io_priority
    if wanted is None:
        return
    if wanted.class_ not in names.IO_PRIORITY_CLASSES:
        problem = f"unknown class {wanted.class_!a:.80}"
        yield Finding(f"{at}.ioPriority.class", problem, "as in IOPRIO_CLASS_BE")
    if not 0 <= wanted.priority <= 7:
        yield Finding(f"{at}.ioPriority.priority", f"expected an integer from 0 to 7, got {wanted.priority}")


def affinities_are_cpu_lists(process: Process, at: str) -> Iterator[Finding]:
    """config.md, "Linux Process", execCPUAffinity: lists such as 0-3,7."""
    wanted = process.exec_cpu_affinity
    if wanted is None:
        return
    for name, cpus in (("initial", wanted.initial), ("final", wanted.final)):
        if cpus and not is_cpu_list(cpus):
            yield Finding(f"{at}.execCPUAffinity.{name}", f"{cpus!a:.60} is no list of CPUs", "as in 0-3,7")


PROCESS_RULES: tuple[ProcessRule, ...] = (
    cwd_is_absolute,
    args_are_given,
    env_has_names,
    umask_is_a_mode,
    rlimits_are_known,
    capabilities_can_be_granted,
    oom_score_is_in_range,
    scheduler_is_possible,
    io_priority_is_known,
    affinities_are_cpu_lists,
)
