"""The front: what it does without the reference, that the result is the reference's, and what it leaves to it."""

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

from tests.patience import until
from tests.shimd.command.installed import Installed, installed, is_built
from tests.shimd.command.runtime import cgroups_of
from tests.shimd.configs import MOUNTS, config, shell
from tests.shimd.direct import in_a_child

pytestmark = [pytest.mark.root, pytest.mark.skipif(not is_built(), reason="the front is not built for this machine")]

F_GET_SEALS, EVERY_SEAL = 1034, 0xF
C = f"asyncrt-oci-{os.getpid()}-front"
OTHER = f"asyncrt-oci-{os.getpid()}-other"
SLEEP = config("sleep", "100")
OFF = {"ASYNCRT_OCI_PLANNER": "off"}


@pytest.fixture
def oci(rootfs: Path) -> Iterator[Installed]:
    """asyncrt-oci with a front and a planner of its own."""
    with installed(rootfs) as made:
        made.warm()
        yield made


def test_from_create_to_delete_without_the_reference(oci: Installed) -> None:
    bundle, pid_file = oci.bundle(SLEEP), oci.folder / "pid"
    oci.must("create", "--bundle", str(bundle), "--pid-file", str(pid_file), C)
    assert oci.asked() == []
    state = oci.state(C)
    assert (state["status"], state["pid"]) == ("created", int(pid_file.read_text()))
    oci.asked()
    oci.must("start", C)
    assert oci.asked() == []
    assert oci.status(C) == "running"
    until(lambda: Path(f"/proc/{state['pid']}/comm").read_text() == "sleep\n", "it runs the program")
    oci.asked()
    assert "is not stopped" in oci.fails("delete", C)
    assert oci.asked() == ["delete"]
    oci.must("delete", "--force", C)
    assert oci.asked() == []
    assert cgroups_of(C) == []
    assert not (oci.root / C).exists()


def test_no_descriptor_of_the_callers_reaches_the_program(oci: Installed) -> None:
    """CVE-2024-21626: neither what is ours nor a directory of the machine that the caller left open."""
    directory = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        oci.must("create", "-b", str(oci.bundle(SLEEP)), C, fds=(directory,))
        oci.must("start", C)
    finally:
        os.close(directory)
    assert oci.asked() == []
    place = Path(f"/proc/{oci.state(C)['pid']}")
    until(lambda: (place / "comm").read_text() == "sleep\n", "it runs the program")
    assert sorted(os.listdir(place / "fd")) == ["0", "1", "2"]


def test_a_mask_is_the_machines_null_device(oci: Installed) -> None:
    """CVE-2025-31133: another device stands where the machine has its own. The script refuses it, too."""
    linux = {"maskedPaths": ["/etc/group"], "readonlyPaths": []}
    bundle, pid_file = str(oci.bundle(config("sleep", "100", linux=linux))), oci.folder / "pid"

    def deed() -> None:
        oci.warm()  # a planner is for one mount namespace
        oci.must("create", "-b", bundle, "--pid-file", str(pid_file), C)
        assert oci.asked() == []
        assert os.stat(f"/proc/{pid_file.read_text()}/root/etc/group").st_rdev == os.makedev(1, 3)
        subprocess.run(["mount", "--bind", "/dev/zero", "/dev/null"], check=True)
        assert "it is not the null device" in oci.fails("create", "-b", bundle, OTHER)
        assert oci.asked() == ["create"]

    in_a_child(deed)
    assert cgroups_of(OTHER) == []


def files_of(oci: Installed, id: str) -> dict[str, Any]:
    """What create left in the directory, without what differs between two containers of one bundle."""
    place = oci.root / id
    record = json.loads((place / "state.json").read_text())
    plain = (place / "plain").read_text().replace(id, "ID").splitlines()
    assert plain[1] == f"{record['pid']} {record['start']}"
    for name in ("pid", "start", "created_ns", "id", "cgroup"):
        assert record.pop(name)
    modes = {path.name: (oct(path.stat().st_mode), path.stat().st_uid) for path in [place, *place.iterdir()]}
    modes["."] = modes.pop(id)
    return {"record": record, "plain": plain[2:], "config": (place / "config.json").read_text(), "modes": modes}


def test_what_is_written_is_what_the_reference_writes(oci: Installed) -> None:
    document = config("sleep", "100", annotations={"colour": "grün", "a/b": '"\\'}, hostname="box")
    bundle = str(oci.bundle(document))
    oci.must("create", "-b", bundle, C)
    assert oci.asked() == []
    oci.must("create", "-b", bundle, OTHER, **OFF)
    assert oci.asked() == ["create"]
    assert files_of(oci, C) == files_of(oci, OTHER)


def test_init_runs_a_sealed_copy(oci: Installed) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    assert oci.asked() == []
    exe = f"/proc/{oci.state(C)['pid']}/exe"
    assert os.readlink(exe).startswith("/memfd:")
    fd = os.open(exe, os.O_RDONLY)
    try:
        assert fcntl.fcntl(fd, F_GET_SEALS) & EVERY_SEAL == EVERY_SEAL
        with pytest.raises(OSError, match=r"not permitted|busy"):
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
    finally:
        os.close(fd)


def test_init_holds_nothing_of_its_maker(oci: Installed) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    place = Path(f"/proc/{oci.state(C)['pid']}/fd")
    held = {os.readlink(entry) for entry in place.iterdir() if int(entry.name) > 2}
    assert {str(oci.root / C / name) for name in ("start", "outcome")} <= held
    assert str(oci.root / C) not in held
    assert not [path for path in held if path.startswith("socket:")], held
    oci.must("start", C)
    until(lambda: len(list(place.iterdir())) == 3, "the program has 0, 1 and 2")


LOOK = """
id; pwd; env; hostname; ls /dev /proc/self/fd /var / /etc; stat -c '%A %u %g %t:%T' /dev/fuse /dev/null /dev/shm
grep -E '^(Cap|NoNew|Seccomp|Sig[BIC]|Groups|Umask|Uid|Gid)' /proc/self/status
cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward /proc/self/limits /proc/self/cgroup
while read a b c rest; do echo $rest; done </proc/self/mountinfo
"""
FILTER = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}
BIND = {"destination": "/var", "type": "bind", "source": ".", "options": ["rbind", "ro", "nosuid"]}
KINDS: dict[str, dict[str, Any]] = {
    "the usual": {},
    "a user": {
        "process": {"user": {"uid": 1000, "gid": 1000, "additionalGids": [50], "umask": 63}, "cwd": "/home/app"}
    },
    "names": {"hostname": "box", "domainname": "yard"},
    "limits": {
        "linux": {"resources": {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 512}}},
        "process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}], "oomScoreAdj": 500},
    },
    "a filter": {"linux": {"seccomp": FILTER}, "process": {"noNewPrivileges": True}},
    "an early filter": {"linux": {"seccomp": FILTER}},
    "a bind": {"mounts": [*MOUNTS, BIND]},
    "sysctls": {"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}},
    "the machine's network": {"namespaces": ["mount", "pid", "ipc", "uts"]},
    "a device": {"linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "uid": 7}]}},
    "shared propagation": {"linux": {"rootfsPropagation": "shared"}},
    "its own home": {"process": {"env": ["PATH=/bin", "HOME=/here"]}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_container_is_the_references(oci: Installed, kind: str) -> None:
    document = shell(LOOK)
    changes = KINDS[kind]
    document = config(*document["process"]["args"], **changes)
    bundle = oci.bundle(document)
    seen = []
    for id, environment in ((C, {}), (OTHER, OFF)):
        oci.must("create", "-b", str(bundle), id, **environment)
        output = oci.output
        assert oci.asked() == (["create"] if environment else []), kind
        oci.must("start", id)
        oci.await_status(id, "stopped")
        oci.must("delete", id)
        oci.asked()
        seen.append(output.read_text().replace(id, "ID"))
    assert "Cap" in seen[0]
    different = list(unified_diff(*(text.splitlines() for text in seen), lineterm="", n=0))
    assert not different, "\n".join(different)


def test_a_joined_network(oci: Installed) -> None:
    document = config("sleep", "100", namespaces=["mount", "pid", {"type": "network", "path": "/proc/self/ns/net"}])
    oci.must("create", "-b", str(oci.bundle(document)), C)
    assert oci.asked() == []
    assert os.readlink(f"/proc/{oci.state(C)['pid']}/ns/net") == os.readlink("/proc/self/ns/net")
    wrong = config("true", namespaces=["mount", "pid", {"type": "network", "path": "/proc/self/ns/uts"}])
    assert "it is no network namespace" in oci.fails("create", "-b", str(oci.bundle(wrong, "wrong")), OTHER)


def both(oci: Installed, *words: str) -> None:
    """A command that fails alike by either way, with the reference's words."""
    ours = oci.fails(*words)
    assert oci.asked()
    theirs = subprocess.run(
        [f"{oci.front}-reference", "--root", str(oci.root), *words], capture_output=True, text=True, check=False
    )
    assert json.dumps(ours)[1:-1] in theirs.stderr
    assert theirs.returncode == 1
    oci.asked()


def test_failures_have_the_references_words(oci: Installed) -> None:
    good = str(oci.bundle(SLEEP))
    both(oci, "create", "-b", str(oci.bundle(config("nowhere-at-all"), "missing")), C)
    both(oci, "create", "-b", str(oci.bundle(config("/etc/passwd"), "no-program")), C)
    both(oci, "create", "-b", str(oci.bundle(config("true", hostname=7), "bad")), C)
    both(oci, "create", "-b", "/nonexistent", C)
    both(oci, "create", "-b", good, "no/id")
    both(oci, "create", "-b", good, ".id")
    both(oci, "start", C)
    both(oci, "delete", C)
    oci.must("create", "-b", good, C)
    both(oci, "create", "-b", good, C)
    oci.must("start", C)
    both(oci, "start", C)
    assert cgroups_of(C)


SCRIPTS = {"half": "#!/nonexistent/interpreter\n", "formless": "no format\n"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_program_that_cannot_be_executed(oci: Installed, name: str) -> None:
    """It is found at create, and fails at start: the words come from init by way of the front's hand."""
    place = oci.folder / "programs"
    place.mkdir()
    (place / name).write_text(SCRIPTS[name])
    (place / name).chmod(0o755)
    bind = {"destination": "/var", "type": "bind", "source": str(place), "options": ["rbind"]}
    bundle = str(oci.bundle(config(f"/var/{name}", mounts=[*MOUNTS, bind])))
    said = []
    for environment in ({}, OFF):
        oci.must("create", "-b", bundle, C, **environment)
        assert bool(oci.asked()) == bool(environment)
        said.append(oci.fails("start", C))
        assert oci.asked() == ["start"]
        oci.must("delete", C)
        oci.asked()
    assert said[0] == said[1]


def test_a_frozen_container_is_deleted(oci: Installed) -> None:
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("start", C)
    oci.must("pause", C)
    oci.must("delete", "--force", C)
    assert cgroups_of(C) == []


UNUSUAL: dict[str, dict[str, Any]] = {
    "hooks": {"hooks": {"createRuntime": [{"path": "/bin/true"}]}},
    "late hooks": {"hooks": {"poststop": [{"path": "/bin/true"}]}},
    "no pid namespace": {"namespaces": ["mount"]},
    "a warning": {"process": {"capabilities": {"ambient": ["CAP_KILL"]}}},
    "a tmpfs that takes after a directory": {"mounts": [*MOUNTS, {"destination": "/tmp", "type": "tmpfs"}]},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_is_the_references(oci: Installed, kind: str) -> None:
    oci.must("create", "-b", str(oci.bundle(config("sleep", "100", **UNUSUAL[kind]))), C)
    assert oci.asked() == ([] if kind == "late hooks" else ["create"])
    plain = (oci.root / C / "plain").exists()
    assert plain == (kind not in ("late hooks", "no pid namespace"))
    oci.must("start", C)
    assert oci.asked() == ([] if plain else ["start"])
    oci.must("delete", "-f", C)
    assert oci.asked() == ([] if plain else ["delete"])


def test_the_log_is_there_though_nothing_is_said(oci: Installed) -> None:
    bundle, log = str(oci.bundle(SLEEP)), oci.folder / "own-log"
    assert (
        subprocess.run([*oci.program, "--log", str(log), *oci.command("create", "-b", bundle, C)[1:]]).returncode == 0
    )
    assert (oci.asked(), log.read_text()) == ([], "")
    words = [*oci.program, "--log", "/nonexistent/log", *oci.command("delete", "-f", C)[1:]]
    assert "open log /nonexistent/log" in subprocess.run(words, capture_output=True, text=True).stderr
    assert oci.asked() == ["delete"]


def test_the_ways_in_which_callers_write_it(oci: Installed) -> None:
    bundle = str(oci.bundle(SLEEP))
    for words in (
        ("create", C, "--bundle", bundle),
        ("create", f"--bundle={bundle}", "--no-new-keyring", C),
        ("create", "-b", bundle, "-pid-file", str(oci.folder / "pid"), C),
    ):
        oci.must(*words)
        assert oci.asked() == [], words
        oci.must("delete", C, "-f")
        assert oci.asked() == [], words
    here = subprocess.run([*oci.program, "--root", str(oci.root), "create", C], cwd=bundle, check=False, timeout=20)
    assert here.returncode == 0
    assert oci.asked() == []
    for words in (("--debug", "delete", "-f", C), ("--root", "relative", "delete", "-f", C)):
        oci(*words)
        assert oci.asked() == ["delete"], words
