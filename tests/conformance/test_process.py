"""config.md, "Process": what the program is given."""

import subprocess
from typing import Any

import pytest

from tests.conformance.bundle import Bundle, read

pytestmark = pytest.mark.root

SETS = {
    "bounding": "CapBnd",
    "effective": "CapEff",
    "inheritable": "CapInh",
    "permitted": "CapPrm",
    "ambient": "CapAmb",
}
CAP_CHOWN, CAP_KILL = 0, 5
SCHED_BATCH, SCHED_IDLE = 3, 5


def test_args_become_argv(bundle: Bundle) -> None:
    """config.md, Process, args: execvp's argv, as it stands."""
    facts = bundle.does("report", "", "two words", "$HOME").report()
    assert [facts[f"arg {number}"] for number in range(1, 4)] == ["", "two words", "$HOME"]


def test_first_of_args_is_looked_up_in_path(bundle: Bundle) -> None:
    """config.md, Process, args: the first entry has the semantics of execvp's file."""
    bundle.process["args"] = ["witness", "report"]
    assert bundle.report()["pid"] == "1"


def test_args_need_an_entry(bundle: Bundle) -> None:
    """config.md, Process, args: at least one entry is REQUIRED."""
    bundle.process["args"] = []
    assert bundle.run().refused()


def test_a_program_that_is_not_there_is_an_error(bundle: Bundle) -> None:
    """runtime.md, Start: the program must be run; what cannot be run is an error."""
    bundle.process["args"] = ["/no-such-program"]
    bundle.run().refused()


def test_env_is_the_environment(bundle: Bundle) -> None:
    """config.md, Process, env: the semantics of environ; nothing of the runtime's own caller leaks in."""
    bundle.process["env"] = ["PATH=/", "EMPTY=", "EQUAL=a=b"]
    facts = bundle.report(env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LEAKED": "yes"})
    seen = {key.removeprefix("env "): value for key, value in facts.items() if key.startswith("env ")}
    assert (seen["PATH"], seen["EMPTY"], seen["EQUAL"]) == ("/", "", "a=b")
    assert "LEAKED" not in seen


PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"


@pytest.mark.parametrize(("uid", "home"), [(0, "/root"), (1000, "/home/app"), (4711, "/")])
@pytest.mark.parametrize("how", ["run", "exec"])
def test_home(bundle: Bundle, how: str, uid: int, home: str) -> None:
    """Not of the spec, but of runc and crun, and callers count on it: HOME by the container's own passwd."""
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    (bundle.rootfs / "etc/passwd").write_text(PASSWD)
    bundle.process["env"] = ["PATH=/"]
    if how == "run":
        bundle.process["user"] = {"uid": uid, "gid": 0}
        assert bundle.report()["env HOME"] == home
        return
    container = bundle.does("pause").started()
    done = bundle.runtime("exec", "--user", str(uid), container.id, "/witness", "report").ok()
    assert read(done.out)["env HOME"] == home


def test_home_that_is_given_stays(bundle: Bundle) -> None:
    """config.md, Process, env."""
    bundle.process["env"] = ["PATH=/", "HOME=/elsewhere"]
    assert bundle.report()["env HOME"] == "/elsewhere"


def test_stdio_is_the_users(bundle: Bundle) -> None:
    """Not of the spec, but of runc and crun: or a program could not open its own /dev/stdout."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    container = bundle.does("pause").started()
    assert (bundle.path / f"{container.id}.out").stat().st_uid == 1000


def test_cwd(bundle: Bundle) -> None:
    """config.md, Process, cwd: the working directory of the program."""
    bundle.process["cwd"] = "/tmp"
    assert bundle.report()["cwd"] == "/tmp"


def test_cwd_must_be_absolute(bundle: Bundle) -> None:
    """config.md, Process, cwd: MUST be an absolute path."""
    bundle.process["cwd"] = "tmp"
    bundle.run().refused()


def test_no_terminal_by_default(bundle: Bundle) -> None:
    """config.md, Process, terminal: defaults to false."""
    facts = bundle.report()
    assert [facts[f"tty {fd}"] for fd in range(3)] == ["0", "0", "0"]


def test_console_size_without_terminal_is_ignored(bundle: Bundle) -> None:
    """config.md, Process, consoleSize: MUST be ignored if terminal is false."""
    bundle.process["consoleSize"] = {"height": 25, "width": 80}
    assert "winsize" not in bundle.report()


@pytest.mark.parametrize(
    ("type", "soft", "hard"),
    [("NOFILE", 512, 1024), ("CORE", 0, 4096), ("STACK", 1 << 20, 8 << 20), ("NPROC", 100, 200)],
)
def test_rlimits(bundle: Bundle, type: str, soft: int, hard: int) -> None:
    """config.md, POSIX process, rlimits: rlim_cur and rlim_max MUST match."""
    bundle.process["rlimits"] = [{"type": f"RLIMIT_{type}", "soft": soft, "hard": hard}]
    assert bundle.report()[f"rlimit {type}"] == f"{soft}:{hard}"


def test_unknown_rlimit_is_an_error(bundle: Bundle) -> None:
    """config.md, POSIX process, rlimits: a type that cannot be mapped MUST generate an error."""
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]
    bundle.refused()


def test_duplicate_rlimit_is_an_error(bundle: Bundle) -> None:
    """config.md, POSIX process, rlimits: duplicated entries MUST generate an error."""
    bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2
    bundle.refused()


@pytest.mark.parametrize("name", SETS)
def test_capability_sets(bundle: Bundle, name: str) -> None:
    """config.md, Linux Process, capabilities: the five sets, seen by a user whom execve(2) gives nothing more."""
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {key: ["CAP_CHOWN", "CAP_KILL"] for key in SETS}
    assert int(bundle.report()[f"status {SETS[name]}"], 16) == 1 << CAP_CHOWN | 1 << CAP_KILL


def test_capabilities_of_root(bundle: Bundle) -> None:
    """config.md, Linux Process, capabilities: root's are no more than the bounding set, and none is inheritable."""
    bundle.process["capabilities"] = {key: ["CAP_KILL"] for key in ("bounding", "effective", "permitted")}
    facts = bundle.report()
    sets = [int(facts[f"status {field}"], 16) for field in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb")]
    assert sets == [1 << CAP_KILL] * 3 + [0, 0]


def test_no_capabilities(bundle: Bundle) -> None:
    """config.md, Linux Process, capabilities: what no set holds is not kept."""
    bundle.process["capabilities"] = {}
    facts = bundle.report()
    assert {int(facts[f"status {field}"], 16) for field in SETS.values()} == {0}


def test_unknown_capability_is_a_warning(bundle: Bundle) -> None:
    """config.md, Linux Process, capabilities: what cannot be mapped is logged as a warning, and SHOULD NOT fail."""
    bundle.process["capabilities"]["bounding"].append("CAP_OF_ANOTHER_KERNEL")
    bundle.report()


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(bundle: Bundle, wanted: bool) -> None:
    """config.md, Linux Process, noNewPrivileges."""
    bundle.process["noNewPrivileges"] = wanted
    assert bundle.report()["status NoNewPrivs"] == str(int(wanted))


def test_oom_score_adj(bundle: Bundle) -> None:
    """config.md, Linux Process, oomScoreAdj: MUST be set to the given value."""
    bundle.process["oomScoreAdj"] = 321
    assert bundle.report()["oom_score_adj"] == "321\\n"


def test_oom_score_adj_is_left_alone(bundle: Bundle) -> None:
    """config.md, Linux Process, oomScoreAdj: if it is not set, the runtime MUST NOT change it."""
    words = bundle.runtime.words("run", "--bundle", str(bundle.path), bundle.id())
    bundle.write()
    done = subprocess.run(
        ["sh", "-c", 'echo 123 >/proc/self/oom_score_adj; exec "$@"', "sh", *words],
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert "oom_score_adj=123\\n" in done.stdout


def test_user(bundle: Bundle) -> None:
    """config.md, POSIX-platform User, uid and gid."""
    bundle.process["user"] = {"uid": 1000, "gid": 1001}
    facts = bundle.report()
    assert (facts["uid"], facts["gid"]) == ("1000", "1001")
    assert facts["status Uid"].split() == ["1000"] * 4


def test_additional_gids(bundle: Bundle) -> None:
    """config.md, POSIX-platform User, additionalGids; none of the runtime's own."""
    bundle.process["user"]["additionalGids"] = [5, 6]
    assert set(bundle.report()["groups"].split()) - {"0"} == {"5", "6"}


def test_umask(bundle: Bundle) -> None:
    """config.md, POSIX-platform User, umask."""
    bundle.process["user"]["umask"] = 0o027
    assert bundle.report()["umask"] == "27"


SCHEDULERS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({"policy": "SCHED_BATCH", "nice": 5}, (SCHED_BATCH, 0, 5)),
    ({"policy": "SCHED_IDLE"}, (SCHED_IDLE, 0, 0)),
    ({"policy": "SCHED_OTHER", "nice": 7}, (0, 0, 7)),
]


@pytest.mark.parametrize(("scheduler", "seen"), SCHEDULERS, ids=["batch", "idle", "other"])
def test_scheduler(bundle: Bundle, scheduler: dict[str, Any], seen: tuple[int, int, int]) -> None:
    """config.md, Linux Process, scheduler: policy, priority, nice."""
    bundle.process["scheduler"] = scheduler
    facts = bundle.report()
    policy, priority, nice = seen
    assert (facts["sched_policy"], facts["sched_priority"]) == (str(policy), str(priority))
    assert policy == SCHED_IDLE or facts["nice"] == str(nice)


def test_scheduler_reset_on_fork(bundle: Bundle) -> None:
    """config.md, Linux Process, scheduler.flags: SCHED_FLAG_RESET_ON_FORK is SCHED_RESET_ON_FORK of the policy."""
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    assert int(bundle.report()["sched_policy"]) == SCHED_BATCH | 0x40000000


@pytest.mark.parametrize(
    "scheduler", [{"policy": "SCHED_NOTHING"}, {"policy": "SCHED_OTHER", "flags": ["SCHED_X"]}], ids=["policy", "flag"]
)
def test_unknown_scheduler_is_an_error(bundle: Bundle, scheduler: dict[str, Any]) -> None:
    """config.md, Valid values: an invalid value MUST generate an error."""
    bundle.process["scheduler"] = scheduler
    bundle.refused()


@pytest.mark.parametrize(("name", "number"), [("BE", 2), ("IDLE", 3)])
def test_io_priority(bundle: Bundle, name: str, number: int) -> None:
    """config.md, Linux Process, ioPriority: class and priority."""
    bundle.process["ioPriority"] = {"class": f"IOPRIO_CLASS_{name}", "priority": 6}
    assert bundle.report()["ioprio"] == f"{number}:6"


def test_unknown_io_priority_is_an_error(bundle: Bundle) -> None:
    """config.md, Valid values: an invalid value MUST generate an error."""
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_X", "priority": 1}
    bundle.refused()


def test_exec_cpu_affinity_is_not_for_init(bundle: Bundle) -> None:
    """config.md, Linux Process, execCPUAffinity: not applicable to the container's init process."""
    free = bundle.report()["status Cpus_allowed_list"]
    bundle.process["execCPUAffinity"] = {"initial": "0", "final": "0"}
    assert bundle.report()["status Cpus_allowed_list"] == free


def test_exec_cpu_affinity(bundle: Bundle) -> None:
    """config.md, Linux Process, execCPUAffinity.final: the CPUs of a process that joins the container."""
    bundle.process["execCPUAffinity"] = {"initial": "0", "final": "0"}
    container = bundle.does("pause").started()
    done = bundle.runtime("exec", container.id, "/witness", "report").ok()
    assert "\nstatus Cpus_allowed_list=0\n" in done.out
