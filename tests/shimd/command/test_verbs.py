"""update, events, spec, features, plan, the global flags; what a command costs."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shimd.command import phases
from shimd.command.flags import LIST, NUMBER, SWITCH, WORD, Flag, Misuse, split
from shimd.command.shelf import Shelf
from shimd.command.update import from_flags, size
from shimd.command.verbs import GLOBAL, LACKING, VERBS
from shimd.container.namespaces import FLAGS
from shimd.errors import RuntimeTrouble
from shimd.linux import pidfd
from shimd.spec.validate import load
from tests.patience import SLOWNESS
from tests.shimd.command.runtime import COMMAND, PROJECT, Runtime
from tests.shimd.configs import config, shell

C = f"asyncrt-oci-{os.getpid()}-verbs"
SLEEP = config("sleep", "100")
ASYNCRT = Path(sys.executable).with_name("asyncrt-oci")
STATE_MS = 60.0


def said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False, timeout=30, cwd=PROJECT)


# ------------------------------------------------------------------------------------------------------- the words

FLAGS_HERE = (Flag("a all", SWITCH, ""), Flag("b", WORD, "", "x"), Flag("n", NUMBER, ""), Flag("e env", LIST, ""))


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        ("", {"a": False, "b": "x", "n": None, "e": []}, []),
        ("--all --b=1 -n 5 -e p=q --env r=s c d", {"a": True, "b": "1", "n": 5, "e": ["p=q", "r=s"]}, ["c", "d"]),
        ("c -a d", {"a": True, "b": "x", "n": None, "e": []}, ["c", "d"]),
        ("-a=false -n=-1 c", {"a": False, "b": "x", "n": -1, "e": []}, ["c"]),
        ("c -- -a", {"a": False, "b": "x", "n": None, "e": []}, ["c", "-a"]),
        ("c -9", {"a": False, "b": "x", "n": None, "e": []}, ["c", "-9"]),
    ],
)
def test_flags_as_go_reads_them(words: str, values: dict[str, object], arguments: list[str]) -> None:
    assert split(words.split(), FLAGS_HERE, to_first=False) == (values, arguments)


def test_a_command_keeps_its_own_flags() -> None:
    assert split(["-a", "c", "ls", "-a"], FLAGS_HERE, to_first=True)[1] == ["c", "ls", "-a"]


@pytest.mark.parametrize("words", ["--nope", "-n x", "-b", "-a=maybe", "-n"])
def test_what_is_no_flag(words: str) -> None:
    with pytest.raises(Misuse):
        split(words.split(), FLAGS_HERE, to_first=False)


@pytest.mark.parametrize(
    ("word", "number"),
    [("TERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+1", 35), ("SIGRTMAX-1", 63), ("0", 0), ("65", -1), ("KILLS", -1)],
)
def test_signals_by_name_and_number(word: str, number: int) -> None:
    assert pidfd.number_of(word) == number


@pytest.mark.parametrize(
    ("word", "amount"), [("1024", 1024), ("64m", 64 << 20), ("1G", 1 << 30), ("2kb", 2048), ("-1", -1)]
)
def test_sizes(word: str, amount: int) -> None:
    assert size("memory", word) == amount


@pytest.mark.parametrize("word", ["", "m", "1x", "-2", "1.5m", "\u0661"])
def test_what_is_no_size(word: str) -> None:
    with pytest.raises(RuntimeTrouble):
        size("memory", word)


def test_updates_flags_are_a_resources_object() -> None:
    values, _ = split(
        ["--memory", "1m", "--cpu-share", "5", "--cpuset-cpus", "0", "--cpu-idle", "0"],
        VERBS["update"].flags,
        to_first=False,
    )
    assert from_flags(values) == {"memory": {"limit": 1 << 20}, "cpu": {"shares": 5, "cpus": "0", "idle": 0}}


def test_every_verb_has_its_file_and_its_help() -> None:
    for name in VERBS:
        assert (PROJECT / "shimd/command" / f"{name}.py").exists()
        done = said(name, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"NAME:\n   asyncrt-oci {name}, ")
        assert f"\nUSAGE:\n   asyncrt-oci {name} " in done.stdout


@pytest.mark.parametrize("name", LACKING)
def test_what_runc_has_and_we_have_not_is_said(name: str) -> None:
    done = said(name, "-h")
    assert done.returncode == 0
    assert "does not exist" in done.stdout
    done = said(name, "box")
    assert done.returncode == 1
    assert LACKING[name] in done.stderr


def test_no_file_is_a_verb_that_the_table_lacks() -> None:
    for path in (PROJECT / "shimd/command").glob("*.py"):
        if "def main(context: Context)" in path.read_text():
            assert path.stem in VERBS


def test_the_version_is_ours_for_who_reads_it_as_runcs() -> None:
    """The first line for people and for who looks for runc's; docker takes the last `version` that it meets."""
    lines = said("--version").stdout.splitlines()
    own, runcs = lines[0].split(", in place of ")
    assert own.startswith("asyncrt-oci version ")
    assert re.fullmatch(r"runc version \d+\.\d+\.\d+", runcs)
    assert [line.partition(":")[0] for line in lines[1:3]] == ["commit", "spec"]
    assert lines[2] == "spec: 1.3.0"
    assert lines[3:] == [own]


@pytest.mark.parametrize("words", ["", "--help", "help create"])
def test_help_lists_the_verbs_or_a_verbs_flags(words: str) -> None:
    done = said(*words.split())
    assert done.returncode == 0
    assert "\nUSAGE:\n   asyncrt-oci" in done.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("nonsense", "No help topic for 'nonsense'"),
        ("--systemd-cgroup list", "systemd"),
        ("--log-format xml list", "text or json"),
        ("state", '"state" takes CONTAINER'),
        ("state a b", "got 2 arguments"),
        ("list --nope", "flag provided but not defined: -nope"),
    ],
)
def test_misuse_is_said_and_is_1(words: str, complaint: str) -> None:
    done = said(*words.split())
    assert done.returncode == 1
    assert complaint in done.stderr.replace('\\"', '"')
    assert done.stderr.startswith("time=")


def test_the_log_takes_json(tmp_path: Path) -> None:
    done = said("--log", str(tmp_path / "log"), "--log-format", "json", "--root", str(tmp_path), "state", "nobody")
    entry = json.loads((tmp_path / "log").read_text())
    assert entry["level"] == "error"
    assert "container does not exist" in entry["msg"]
    assert done.stderr == entry["msg"] + "\n"


def test_a_log_that_cannot_be_written_stops_the_command(tmp_path: Path) -> None:
    done = said("--log", str(tmp_path / "no/log"), "--root", str(tmp_path), "list")
    assert done.returncode == 1
    assert "no/log: no such file or directory" in done.stderr


def test_an_id_is_a_name(tmp_path: Path) -> None:
    for id in ("", ".", "..", "a/b", "a\nb", "ä", "x" * 2000):
        with pytest.raises(RuntimeTrouble, match="invalid container ID format"):
            Shelf(str(tmp_path), id)


# -------------------------------------------------------------------------------------------- documents of our own


@pytest.mark.parametrize("flags", [[], ["--rootless"]])
def test_spec_is_a_config_of_ours_and_is_not_written_twice(tmp_path: Path, flags: list[str]) -> None:
    assert said("spec", "-b", str(tmp_path), *flags).returncode == 0
    complaints: list[object] = []
    load(json.loads((tmp_path / "config.json").read_text()), complaints.append)
    assert complaints == []
    assert "exists" in said("spec", "-b", str(tmp_path), *flags).stderr


def test_features_are_what_the_tables_hold() -> None:
    document = json.loads(said("features").stdout)
    assert set(document["linux"]["namespaces"]) == set(FLAGS)
    assert len(document["hooks"]) == 6
    assert {"ro", "rbind", "rprivate", "nosuid"} <= set(document["mountOptions"])
    assert "CAP_SYS_ADMIN" in document["linux"]["capabilities"]
    assert document["linux"]["cgroup"]["systemd"] is False


# ------------------------------------------------------------------------------------------------ with a container


@pytest.mark.root
@pytest.mark.parametrize("peer", ["runc", "crun"])
def test_our_spec_is_accepted_by_others(oci: Runtime, peer: str) -> None:
    if shutil.which(peer) is None:
        pytest.skip(f"not installed: {peer}")
    place = oci.folder / "spec"
    place.mkdir()
    oci.must("spec", "-b", str(place))
    document = json.loads((place / "config.json").read_text())
    document["root"]["path"] = str(oci.rootfs)
    document["process"] |= {"terminal": False, "args": ["echo", "hello"], "rlimits": []}
    (place / "config.json").write_text(json.dumps(document))
    words = [peer, "--root", str(oci.folder / peer), *(["--cgroup-manager", "cgroupfs"] if peer == "crun" else [])]
    apart = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'umount /sys/fs/cgroup/unified; exec "$@"', "sh"]
    done = subprocess.run([*apart, *words, "run", "-b", str(place), C], capture_output=True, text=True, check=False)
    assert done.stdout == "hello\n", done.stderr
    assert oci.must("run", "-b", str(place), C).stdout == "hello\n"


@pytest.mark.root
def test_a_bundle_of_umoci_runs_unchanged(oci: Runtime) -> None:
    if shutil.which("umoci") is None:
        pytest.skip("not installed: umoci")
    image, place = f"{oci.folder}/image:test", oci.folder / "unpacked"

    def umoci(*words: str) -> None:
        subprocess.run(["umoci", *words], check=True, capture_output=True)

    umoci("init", "--layout", str(oci.folder / "image"))
    umoci("new", "--image", image)
    umoci("insert", "--image", image, str(oci.rootfs / "bin"), "/bin")
    umoci("config", "--image", image, "--config.cmd", "echo", "--config.cmd", "hello", "--config.env", "PATH=/bin")
    umoci("unpack", "--image", image, str(place))
    document = json.loads((place / "config.json").read_text())
    # All is as umoci writes it but the terminal, for which a test without one has no use, and the machine's rlimits.
    document["process"] |= {"terminal": False, "rlimits": []}
    (place / "config.json").write_text(json.dumps(document))
    assert oci.must("run", "-b", str(place), C).stdout == "hello\n"


@pytest.mark.root
def test_debug_tells_the_phases_as_runcs_log_does(oci: Runtime) -> None:
    def told(*words: str) -> list[str]:
        lines = [entry["msg"] for entry in oci.must("--debug", *words).log if entry["level"] == "debug"]
        return [line.rpartition("(in runc's words: ")[2].removesuffix(")") for line in lines if "in runc's" in line]

    assert told("run", "-d", "-b", str(oci.bundle(SLEEP)), C) == [phases.SET_UP, phases.CHILD, phases.SET_UP_ENDED]
    assert told("exec", C, "true") == [phases.SET_UP, phases.CHILD, phases.EXEC]
    assert not oci.must("exec", C, "true").log


@pytest.mark.root
def test_plan_prints_and_does_nothing(oci: Runtime) -> None:
    lines = oci.must("plan", "-b", str(oci.bundle(SLEEP))).stdout.splitlines()
    assert any(line == "rooting: mount proc on /proc" for line in lines)
    assert lines[-1] == "process: await start, then run sleep"
    assert not oci.root.exists()


@pytest.mark.root
def test_update_by_flags_and_by_document(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    oci.must("update", "--pids-limit", "33", C)
    files = list(Path("/sys/fs/cgroup").glob(f"**/{C}/pids.max"))
    assert [path.read_text() for path in files] == ["33\n"]
    oci.must("update", "-r", "-", C, stdin='{"pids": {"limit": 44}}')
    assert files[0].read_text() == "44\n"
    document = oci.folder / "resources.json"
    document.write_text('{"pids": {"limit": 55}}')
    oci.must("update", "--resources", str(document), C)
    assert files[0].read_text() == "55\n"
    document.write_text('{"pids": {"limit": "many"}}')
    assert "$.pids.limit" in oci.fails("update", "-r", str(document), C)
    oci.must("kill", C, "9")
    oci.await_status(C, "stopped")
    assert "container not running" in oci.fails("update", "--pids-limit", "3", C)


@pytest.mark.root
def test_events_stats_are_numbers_of_this_container(oci: Runtime) -> None:
    oci.must("run", "-d", "-b", str(oci.bundle(SLEEP)), C)
    event = json.loads(oci.must("events", "--stats", C).stdout)
    assert (event["type"], event["id"]) == ("stats", C)
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["memory"]["usage"]["usage"] > 0


@pytest.mark.root
def test_events_go_on_until_the_end_and_tell_of_kills(oci: Runtime) -> None:
    """The program waits for a file, then takes more memory than it may."""
    mounts = [*SLEEP["mounts"], {"destination": "/tmp", "type": "bind", "source": str(oci.folder), "options": ["bind"]}]
    script = "while ! test -e /tmp/go; do sleep 0.05; done; tail /dev/zero; sleep 0.1"
    limits: dict[str, Any] = {"resources": {"memory": {"limit": 16 << 20}}}
    oci.must("run", "-d", "-b", str(oci.bundle(shell(script, mounts=mounts, linux=limits))), C)
    with subprocess.Popen(oci.command("events", "--interval", "100ms", C), stdout=subprocess.PIPE, text=True) as events:
        assert events.stdout is not None
        first = json.loads(events.stdout.readline())
        (oci.folder / "go").touch()
        rest = [json.loads(line) for line in events.stdout]
        assert events.wait(20) == 0
    assert first["type"] == "stats"
    assert "oom" in [event["type"] for event in rest]


# ------------------------------------------------------------------------------------------------------- its price


def test_short_commands_import_little() -> None:
    """Each of these costs a short command more than its own work (bench/oci.py)."""
    heavy = {"ctypes", "typing", "re", "enum", "json", "collections", "msgpack", "argparse", "logging", "subprocess"}
    for verb in ("state", "start", "kill", "delete"):
        code = f"import sys; from shimd.command.main import main; main(['{verb}', 'nobody']); print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(PROJECT)!r}); {code}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert heavy.isdisjoint(done.stdout.split()), verb


@pytest.mark.root
@pytest.mark.skipif(SLOWNESS > 1, reason="60 ms are promised on a machine that is not emulated")
def test_state_answers_in_time(oci: Runtime) -> None:
    if not ASYNCRT.exists():
        pytest.skip(f"{ASYNCRT} is not installed (sh setup.sh)")
    oci.must("create", "-b", str(oci.bundle(SLEEP)), C)
    command = [str(ASYNCRT), "--root", str(oci.root), "state", C]

    def once() -> float:
        begun = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return (time.monotonic() - begun) * 1000

    assert min(once() for _ in range(10)) < STATE_MS


def test_the_tables_words_are_told_apart() -> None:
    for flags in (GLOBAL, *(verb.flags for verb in VERBS.values())):
        names = [name for flag in flags for name in flag.names]
        assert len(names) == len(set(names))
