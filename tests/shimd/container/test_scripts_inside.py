"""By script or by the reference executor, a container is the same: seen from outside, from inside, and on disk."""

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import script
from shimd.wire.messages import RootMount
from tests.shimd.configs import CAPABILITIES, MOUNTS, config
from tests.shimd.line import gone, until
from tests.shimd.pair import Pair, by_script
from tests.shimd.stage import Container

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
    "fewer namespaces": {"namespaces": ["mount", "pid", "uts"], "mounts": MOUNTS[:3]},
    "more mounts": {
        "mounts": [
            *MOUNTS,
            {"destination": "/new/tmp", "type": "tmpfs", "source": "none", "options": [*SAFE, "size=64k", "mode=1777"]},
        ]
    },
}
BINDS = {
    "directory": [("", "/data")],
    "read-only": [("", "/data", "ro", "nosuid")],
    "file": [("file", "/etc/hosts"), ("file", "/new/place/file", "ro")],
    "twice": [("", "/data"), ("inner", "/data/inner", "ro"), ("inner", "/other")],
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
        "said": re.sub(r"_ses\.(?!ID\n).*\n", "", plain(container.log("stdout").decode())),  # those of others
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
