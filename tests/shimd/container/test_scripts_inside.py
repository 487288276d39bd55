"""By script or by the reference executor, a container is the same: seen from outside, from inside, and on disk."""

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shimd.linux import script
from shimd.wire.messages import RootMount
from tests.shimd.configs import CAPABILITIES, MOUNTS, config
from tests.shimd.line import gone, until
from tests.shimd.stage import Container, Stage, StartFailed, opened

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not script.usable(), reason="script.c is not built for this machine"),
]
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
STATUS = (
    *("Umask", "Uid", "Gid", "Groups", "NSpid", "NSpgid", "NSsid", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"),
)
LOOK = r"""
umask; pwd; hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_default_ttl
cat /sys/class/net/lo/flags
for node in /dev /dev/* /dev/pts/* /dev/shm; do stat -c '%N %F %a %u %g %t %T' $node; done
grep -o '_ses[^:]*' /proc/keys | sort -u
ls /sys/fs/cgroup
readlink /proc/self/cwd
echo done
exec sleep 600
"""
SEEN = [mount for mount in MOUNTS if mount["destination"] != "/sys"]
SAFE = ["nosuid", "noexec", "nodev"]
UNMASKED = {"maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/timer_list", "/sys/firmware", "/no/such/path"]}
USER = {"uid": 1000, "gid": 1000, "additionalGids": [5, 50], "umask": 0o77}
MIB = 1 << 20


class Pair(NamedTuple):
    """Two stages that differ in one thing; `bind` is a directory that both keep."""

    scripted: Stage
    reference: Stage
    bind: Path


@pytest.fixture(scope="module")
def pairs(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    place = tmp_path_factory.mktemp("bind")
    (place / "inner").mkdir()
    (place / "file").write_text("of the machine\n")
    with opened(rootfs, [place]) as one, opened(rootfs, [place], scripts=False) as other:
        yield Pair(one, other, place)


@pytest.fixture
def pair(pairs: Pair) -> Iterator[Pair]:
    """Cleared after the test; a shim that wrote to stderr fails it."""
    yield pairs
    for one in pairs[:2]:
        assert one.zygote.poll() is None
        one.empty()
        assert not one.complaints()


def by_script(container: Container) -> bool:
    """Was no child of the shim reaped (proc_pid_stat(5), cminflt)? The reference reaps its midwife."""
    fields = Path(f"/proc/{container.shim_pid}/stat").read_text().rpartition(")")[2].split()
    return fields[8] == "0"


def test_one_stage_has_scripts_and_the_other_none(pair: Pair) -> None:
    assert by_script(pair.scripted.start(config("sleep", "600")))
    assert not by_script(pair.reference.start(config("sleep", "600")))


def limits(**resources: Any) -> dict[str, Any]:
    return {"linux": {"resources": resources, **UNMASKED}}


def bind(pair: Pair, inner: str, destination: str, *options: str) -> dict[str, Any]:
    source = str(pair.bind / inner) if inner else str(pair.bind)
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", *options]}


FEW = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), CAPABILITIES[:3])
TABLE: dict[str, dict[str, Any]] = {
    "the usual": {},
    "names": {"hostname": "box", "domainname": "yard"},
    "sysctls": {"linux": {"sysctl": {"net.ipv4.ip_default_ttl": "33", "kernel.msgmax": "4242"}, **UNMASKED}},
    "user": {"process": {"user": USER}},
    "user with ambient": {"process": {"user": USER, "capabilities": FEW}},
    "capabilities left alone": {"process": {"capabilities": None}},
    "no capabilities": {"process": {"capabilities": {}}},
    "no new privileges": {"process": {"noNewPrivileges": True}},
    "read-only": {"root": {"path": "rootfs", "readonly": True}},
    "directory": {"process": {"cwd": "/var/new/deep"}},
    "rlimits": {
        "process": {
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                {"type": "RLIMIT_STACK", "soft": 4 * MIB, "hard": 8 * MIB},
            ]
        }
    },
    "resources": limits(memory={"limit": 64 * MIB}, cpu={"shares": 512, "quota": 50000, "period": 100000}),
    "pids": limits(pids={"limit": 20}),
    "slave root": {"linux": {"rootfsPropagation": "slave", **UNMASKED}},
    "fewer namespaces": {"namespaces": ["mount", "pid", "uts"], "mounts": MOUNTS[:3]},
    "more mounts": {
        "mounts": [
            *MOUNTS,
            {"destination": "/new/tmp", "type": "tmpfs", "source": "none", "options": [*SAFE, "size=64k", "mode=1777"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "shared"]},
        ]
    },
}
BINDS = {
    "directory": [("", "/data")],
    "read-only": [("", "/data", "ro", "nosuid")],
    "file": [("file", "/etc/hosts"), ("file", "/new/place/file", "ro")],
    "twice": [("", "/data"), ("inner", "/data/inner", "ro"), ("inner", "/other")],
    "propagation": [("", "/data", "rslave")],
}


def document(changes: dict[str, Any]) -> dict[str, Any]:
    return config("sh", "-c", LOOK, **{"linux": UNMASKED, **changes})


def compare(pair: Pair, wanted: dict[str, Any], stdin: bool = False, **spawn: Any) -> None:
    """Start it twice, and find no difference."""
    pictures = []
    for one in pair[:2]:
        container = one.start(wanted, stdin=stdin, **spawn)
        assert by_script(container) == one.scripts
        settle(container)
        pictures.append(picture(container))
    scripted, reference = pictures
    assert scripted.keys() == reference.keys()
    for key in reference:
        assert scripted[key] == reference[key], key


@pytest.mark.parametrize("stdin", [False, True], ids=["null", "stdin"])
@pytest.mark.parametrize("name", TABLE)
def test_the_same(pair: Pair, name: str, stdin: bool) -> None:
    compare(pair, document(TABLE[name]), stdin)


@pytest.mark.parametrize("name", BINDS)
def test_the_same_binds(pair: Pair, name: str) -> None:
    binds = [bind(pair, *words) for words in BINDS[name]]
    compare(pair, document({"mounts": [*MOUNTS, *binds]}))


@pytest.mark.parametrize(
    "env",
    [
        ["A=1", "B=2"],
        ["HOME=/elsewhere", "EMPTY=", "WITH==sign"],
        ["A=1", "A=2"],
        [f"N{number}={number}" for number in range(200)],
        ["LONG=" + "x" * 60_000],
    ],
    ids=["new", "replaced", "twice", "many", "long"],
)
def test_the_same_environment(pair: Pair, env: list[str]) -> None:
    """Also where the script has no room and hands over: therefore nothing is said about who started it."""
    wanted = document({"process": {"env": ["PATH=/bin", "HOME=/root", "TWICE=1", "TWICE=2"]}})
    found = []
    for one in pair[:2]:
        container = one.start(wanted, env=env)
        settle(container)
        found.append(Path(f"/proc/{container.pid}/environ").read_bytes())
    assert found[0] == found[1]
    assert all(entry.encode() in found[0] for entry in env[1:])


def test_the_same_root_by_bind(pair: Pair, rootfs: Path) -> None:
    compare(pair, config("sh", "-c", "echo done; exec sleep 600"), root=[RootMount("bind", [str(rootfs)])])


def test_the_same_hostname_of_its_own(pair: Pair) -> None:
    compare(pair, document({"hostname": "template"}), hostname="own")
    compare(pair, document({"hostname": "template"}), hostname="")


# What is compared


def settle(container: Container) -> None:
    """Wait until the shell has said everything and is sleep."""
    arguments = Path(f"/proc/{container.pid}/cmdline")
    assert until(lambda: arguments.read_bytes().startswith(b"sleep\0")), container.log("stderr")
    assert until(lambda: container.log("stdout").endswith(b"done\n")), container.log("stdout")


def picture(container: Container) -> dict[str, Any]:
    pid = container.pid
    proc = Path(f"/proc/{pid}")

    def plain(text: str) -> str:
        text = text.replace(str(container.base), "BASE").replace(container.id, "ID")
        return text.replace(container.id[-12:], "HOST").replace(container.stage.cgroup, "CGROUP")

    words = [line.split(":", 1) for line in (proc / "status").read_text().splitlines()]
    status = {key: value.split() for key, value in words if key in STATUS}
    for key in ("NSpid", "NSpgid", "NSsid"):
        status[key] = status[key][1:]
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return {
        "mounts": [plain(line) for line in mounts(proc)],
        "status": status,
        "parent": fields[1] == str(container.shim_pid),
        "terminal": fields[4],
        "said": re.sub(r"_ses\.[0-9a-f]+\n", "", plain(container.log("stdout").decode())),  # those of others
        "complained": plain(container.log("stderr").decode()),
        "limits": (proc / "limits").read_text(),
        "environ": plain((proc / "environ").read_bytes().decode()),
        "cmdline": (proc / "cmdline").read_bytes(),
        "cwd": os.readlink(proc / "cwd"),
        "cgroup": plain((proc / "cgroup").read_text()),
        "namespaces": {kind: os.readlink(proc / "ns" / kind) != os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS},
        "fds": fds(proc),
        "score": (proc / "oom_score_adj").read_text(),
        "upper": tree(container.base / "upper"),
        "name of the shim": plain(Path(f"/proc/{container.shim_pid}/comm").read_text()).replace(
            container.id[:10], "ID"
        ),
        "fds of the shim": sorted(kind(os.readlink(fd)) for fd in Path(f"/proc/{container.shim_pid}/fd").iterdir()),
    }


def kind(link: str) -> str:
    """Without what is a container's own."""
    return re.sub(r"[0-9a-f]{64}|/tmp/asyncrt-[^/]*|\[\d+\]", "", link)


def fds(proc: Path) -> dict[str, tuple[str, str, int, int]]:
    """By number: target, flags, owner and mode."""
    found = {}
    for fd in sorted((proc / "fd").iterdir()):
        info = (proc / "fdinfo" / fd.name).read_text().split()
        status = fd.stat()
        found[fd.name] = (kind(os.readlink(fd)), info[info.index("flags:") + 1], status.st_uid, status.st_mode)
    return found


def mounts(proc: Path) -> list[str]:
    """mountinfo without ids: each mount by its place and that of its parent, those on one place in their order."""
    rows = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    places = {row[0]: f"{row[4]}" for row in rows}
    found = []
    for row in rows:
        device = "anonymous" if row[2].startswith("0:") else row[2]
        optional, rest = row[6 : row.index("-")], row[row.index("-") :]
        tags = [re.sub(r":\d+", "", tag) for tag in optional]
        found.append(" ".join([row[4], "on", places.get(row[1], "nothing"), device, row[3], row[5], *tags, *rest]))
    return sorted(found, key=lambda line: line.split()[0])  # stable: the order on one place stays


def tree(top: Path) -> dict[str, tuple[int, int, int, int, str]]:
    """What the start itself has written into the container's own layer."""
    found = {}
    for folder, names, files in os.walk(top):
        for name in [*names, *files]:
            path = Path(folder) / name
            status = path.lstat()
            link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            place = str(path.relative_to(top))
            found[place] = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, link)
    return found


def test_the_picture_has_something_in_it(pair: Pair) -> None:
    """Or all comparisons would hold for nothing."""
    container = pair.scripted.start(document({"process": {"user": USER, "cwd": "/var/new"}}), stdin=True)
    settle(container)
    seen = picture(container)
    assert len(seen["mounts"]) > len(MOUNTS)
    assert seen["status"]["Uid"] == ["1000"] * 4
    assert seen["status"]["Groups"] == ["5", "50"]
    assert seen["status"]["SigBlk"] == seen["status"]["SigIgn"] == ["0" * 16]
    assert seen["status"]["NSpid"] == seen["status"]["NSsid"] == ["1"]
    assert seen["parent"]
    assert seen["fds"].keys() == {"0", "1", "2"}
    assert {owner for _, _, owner, _ in seen["fds"].values()} == {1000}
    assert seen["cwd"] == "/var/new"
    assert "_ses.ID" in seen["said"]
    assert "character special file 666 0 0 1 3" in seen["said"], "/dev/null"
    assert "var/new" in seen["upper"]
    assert [name for name, new in seen["namespaces"].items() if not new] == ["time", "user"]


# Deaths


def test_init_dies_with_its_shim(pair: Pair) -> None:
    for process in ({}, {"user": USER}):
        container = pair.scripted.start(config("sleep", "600", process=process))
        assert by_script(container)
        os.kill(container.shim_pid, 9)
        assert gone(container.pid)


def test_an_idle_shim_of_a_script_is_small(pair: Pair) -> None:
    """Half of what the reference leaves behind (tests/shimd/server/test_crowd.py)."""
    sizes = []
    for _ in range(5):
        container = pair.scripted.start(config("sleep", "600"))
        lines = Path(f"/proc/{container.shim_pid}/smaps_rollup").read_text().splitlines()[1:]
        memory = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        sizes.append(memory["Private_Clean"] + memory["Private_Dirty"])
    assert sorted(sizes)[2] <= 600, sizes


# Refusals: the words are the reference's, and nothing is left.


def path_socket_taken(one: Stage) -> Container:
    first = one.start(config("sleep", "600"))
    second = one.prepare()
    one.spawn(second, one.template(config("true")), id=first.id)
    return second


def cgroup_taken(one: Stage) -> Container:
    first = one.start(config("sleep", "600"))
    second = one.prepare()
    one.spawn(second, one.template(config("true")), cgroup=first.cgroup)
    return second


def unlike(mounts_: list[dict[str, Any]] | None = None, **process: Any) -> dict[str, Any]:
    args = process.pop("args", ["true"])
    return config(*args, process=process, mounts=[*MOUNTS, *(mounts_ or [])])


FILES = int(Path("/proc/sys/fs/nr_open").read_text()) + 1
TMPFS = {"type": "tmpfs", "source": "tmpfs", "options": []}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such program": (unlike(args=["nothing"]), {}, "run nothing: no such file or directory"),
    "no such path": (unlike(args=["/bin/nothing"]), {}, "run /bin/nothing: no such file or directory"),
    "not executable": (unlike(args=["/bin/notexec"]), {}, "run /bin/notexec: permission denied"),
    "not executable on PATH": (unlike(args=["notexec"]), {}, "run notexec: permission denied"),
    "no interpreter": (unlike(args=["nointerp"]), {}, "its interpreter is missing"),
    "garbage": (unlike(args=["garbage"]), {}, "run garbage: exec format error"),
    "a directory as program": (unlike(args=["/etc"]), {}, "run /etc: permission denied"),
    "a file as directory": (unlike(cwd="/etc/passwd"), {}, "/etc/passwd: not a directory"),
    "a limit above the kernel's": (
        unlike(rlimits=[{"type": "RLIMIT_NOFILE", "soft": FILES, "hard": FILES}]),
        {},
        "set RLIMIT_NOFILE to .*: operation not permitted",
    ),
    "a period that no scheduler has": (
        config("true", linux={"resources": {"cpu": {"period": 10}}}),
        {},
        "set limit .*: invalid argument",
    ),
    "a sysctl that is none": (
        config("true", linux={"sysctl": {"net.ipv4.no_such": "1"}}),
        {},
        "net.ipv4.no_such.*: no such file",
    ),
    "a mount on a file": (unlike([{"destination": "/etc/passwd", **TMPFS}]), {}, "not a directory"),
    "an unknown file system": (unlike([{"destination": "/x", "type": "nofs", "source": "x"}]), {}, "no such device"),
    "an option that is none": (
        unlike([{"destination": "/x", **TMPFS, "options": ["nonsense=1"]}]),
        {},
        "nonsense",
    ),
    "a bind of nothing": (
        unlike([{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}]),
        {},
        "no such file or directory",
    ),
    "PATH of its own": (unlike(args=["true"]), {"env": ["PATH=/nowhere"]}, "run true: no such file"),
    "an environment that is too long": (unlike(), {"env": ["X=" + "x" * 150_000]}, "argument list too long"),
    "a hostname that is too long": (unlike(), {"hostname": "x" * 65}, "invalid argument|name too long"),
    "a root that is missing": (unlike(), {"root": [RootMount("bind", ["/no/such/root"])]}, "no such file"),
    "a layer that is missing": (unlike(), {"root": [RootMount("overlay", ["/no/such", "/tmp"])]}, "root file system"),
    "an upper layer that is missing": (
        unlike(),
        {"root": [RootMount("overlay", ["/tmp"], "/no/upper", "/no/work")]},
        "root file system",
    ),
    "a root that may not be pivoted": (
        config("true", linux={"rootfsPropagation": "shared"}),
        {},
        "change to the root file system: invalid argument",
    ),
    "a cgroup below nothing": (unlike(), {"cgroup": "/no-such-parent/x"}, "create cgroup in .*: no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alike(pair: Pair, name: str) -> None:
    wanted, spawn, words = REFUSED[name]
    told = []
    for one in pair[:2]:
        container = one.prepare()
        one.spawn(container, one.template(wanted), **spawn)
        told.append(refusal(container))
        assert one.left_of(container) == []
    assert told[0] == told[1]
    assert re.search(words, told[0]), told[0]


@pytest.mark.parametrize("start", [path_socket_taken, cgroup_taken], ids=lambda start: start.__name__)
def test_what_is_anothers_stays(pair: Pair, start: Any) -> None:
    told = []
    for one in pair[:2]:
        told.append(refusal(start(one)))
        first = one.containers[0]
        assert first.query().state == "running"
        assert len(one.left_of(first)) > 1
    assert told[0] == told[1]


def refusal(container: Container) -> str:
    with pytest.raises(StartFailed) as refused:
        container.started()
    assert container.gone() == []
    trouble = refused.value.trouble
    text = f"{trouble} errno={trouble.errno} code={trouble.code}"
    return re.sub(r"[0-9a-f]{12,64}", "ID", text.replace(str(container.base), "BASE"))


def test_more_layers_than_a_script_takes(pair: Pair, tmp_path: Path, rootfs: Path) -> None:
    layers = []
    for number in range(130):
        (tmp_path / str(number)).mkdir()
        layers.append(str(tmp_path / str(number)))
    with opened(rootfs, [tmp_path]) as one:
        for count in (127, 128, 129):
            container = one.prepare()
            recipe = container.root._replace(lower=[*layers[: count - 1], str(rootfs)])
            one.spawn(container, one.template(config("sleep", "600")), root=[recipe])
            container.started()
            assert by_script(container) == (count <= 128)


def test_nothing_is_started_for_a_supervisor_that_is_gone(pair: Pair) -> None:
    for one in pair[:2]:
        container = one.prepare()
        one.spawn(container, one.template(config("sleep", "600")), ticket=False)
        container.end.close()
        one.ticket()
        assert until(lambda c=container: c.log("exit") != b"")
        assert until(lambda o=one, c=container: o.left_of(c) == [])
        assert b"the supervisor is gone" in container.log("exit")


def test_init_is_killed_while_it_is_set_up(pair: Pair) -> None:
    """A frozen parent cgroup holds it where it enters. What a script could not do the reference does once more."""
    freezer = next((tree for tree in pair.scripted.hierarchies if "freezer" in tree.controllers), None)
    if freezer is None:
        pytest.skip("the freezer of cgroup v1 is what holds init here")
    one = pair.scripted
    parent = Path(freezer.mount + one.cgroup)
    container = one.prepare()
    (parent / "freezer.state").write_text("FROZEN")
    try:
        one.spawn(container, one.template(config("sleep", "600")))
        tasks = Path(freezer.mount + container.cgroup) / "tasks"
        assert until(lambda: tasks.exists() and tasks.read_text().strip())
        assert container.silent(0.2)
        pid = int(tasks.read_text())
        os.kill(pid, 9)
    finally:
        (parent / "freezer.state").write_text("THAWED")
    assert gone(pid)
    assert container.started().pid != pid
    assert not by_script(container)
    container.kill()
    container.ended()
    assert container.gone() == []
    assert one.left_of(container) == []


def test_a_start_is_counted_once(pair: Pair) -> None:
    """Phases come in their order, as with the reference."""
    for one in pair[:2]:
        before = time.monotonic_ns()
        timeline = one.start(config("sleep", "600")).started().timeline
        assert [phase for phase, _ in timeline] == ["queue", "zygote", "cgroup", "namespaces", "mounts", "exec"]
        moments = [moment for _, moment in timeline]
        assert before <= moments[0]
        assert moments == sorted(moments)
