"""By script or by the reference, an exec is the same; and the script does those that it is made for."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import script
from shimd.wire.messages import ExecEnded, ExecFailed, ExecStarted
from tests.shimd.configs import CAPABILITIES, config, process_of
from tests.shimd.line import read_all
from tests.shimd.pair import Pair, pair, pairs
from tests.shimd.stage import Container

__all__ = ["pair", "pairs"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not script.usable(), reason="script.c is not built for this machine"),
]
LOOK = r"""
grep -E '^(Umask|Uid|Gid|Groups|SigPnd|ShdPnd|SigBlk|SigIgn|Cap...|NoNewPrivs|Seccomp|Threads)' /proc/self/status
ls -l /proc/self/fd | sed 's/.* \([0-9]* ->\)/\1/; s/[0-9]*\]/]/'
env | sort; id; pwd; ulimit -a; cat /proc/self/oom_score_adj; stat -c %u:%g:%a /dev/stdout
for kind in cgroup ipc mnt net pid uts; do
    [ "$(readlink /proc/self/ns/$kind)" = "$(readlink /proc/1/ns/$kind)" ] && echo $kind is that of init
done
cut -d' ' -f 5,6,7 /proc/self/stat | sed 's/[1-9][0-9]*/n/g'
sed 's,/asyncrt[^/]*/.*,,' /proc/self/cgroup
"""
KEYS = "grep -o '_ses[^:]*' /proc/keys"
FEW = dict.fromkeys(("bounding", "effective", "permitted", "inheritable", "ambient"), CAPABILITIES[:3])
FILTER = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
TABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the usual": ({}, {}),
    "a user": ({"user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 50], "umask": 0o77}}, {}),
    "few capabilities": ({"capabilities": FEW}, {}),
    "no new privileges": ({"noNewPrivileges": True}, {"seccomp": FILTER}),
    "a filter": ({}, {"seccomp": FILTER}),
    "limits": ({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]}, {}),
    "a directory": ({"cwd": "/home"}, {}),
}


def faults(pid: int) -> int:
    """Page faults of a process so far, those before its exec with them (proc_pid_stat(5), minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def boxes(pair: Pair, process: dict[str, Any], linux: dict[str, Any]) -> list[Container]:
    document = config("sleep", "600", process=process, linux=linux)
    return [stage.start(document) for stage in (pair.scripted, pair.reference)]


@pytest.mark.parametrize("case", TABLE)
def test_the_same_process(pair: Pair, case: str) -> None:
    process, linux = TABLE[case]
    said = []
    for box in boxes(pair, process, linux):
        out, err = box.exec("a1", process_of("sh", "-c", LOOK, "name", "", "two words", **process))
        said.append(read_all(out).decode() + read_all(err).decode())
        assert box.expect(ExecEnded).record.code == 0
    assert said[0] == said[1]
    assert said[0].count(" is that of init") == 6


@pytest.mark.parametrize("case", TABLE)
def test_no_python_runs_in_it(pair: Pair, case: str) -> None:
    """A fork that runs Python copies pages by the hundred before its exec; a script touches a few."""
    process, linux = TABLE[case]
    found = []
    for box in boxes(pair, process, linux):
        box.exec("a1", process_of("sleep", "600", **process))
        found.append(faults(box.expect(ExecStarted).pid))
    assert found[0] + 50 < found[1]


def test_it_has_a_keyring_of_its_own(pair: Pair) -> None:
    for box in boxes(pair, {}, {"maskedPaths": []}):
        out, _ = box.exec("a1b2", process_of("sh", "-c", KEYS))
        assert "_ses.a1b2" in read_all(out).decode().split()


def test_another_shape_is_the_references(pair: Pair) -> None:
    (box, _) = boxes(pair, {}, {})
    out, _ = box.exec("a1", process_of("sh", "-c", "id -u; pwd", user={"uid": 7, "gid": 7}, cwd="/home"))
    assert read_all(out) == b"7\n/home\n"
    assert box.expect(ExecEnded).record.code == 0


@pytest.mark.parametrize(
    ("count", "length"), [(100, 1), (1, 60_000), (300, 10)], ids=["arguments", "a long one", "many"]
)
def test_what_does_not_fit_is_the_references(pair: Pair, count: int, length: int) -> None:
    (box, _) = boxes(pair, {}, {})
    words = ["x" * length] * count
    env = ["PATH=/bin", *(f"V{number}=x" for number in range(count))]
    out, _ = box.exec("a1", process_of("sh", "-c", 'echo $# ${#1}; env | grep -c "^V"', "sh", *words, env=env))
    assert read_all(out).decode().split() == [str(count), str(length), str(count)]


@pytest.mark.parametrize("words", [(), ("e",)])
def test_nothing_is_left_of_the_one_before(pair: Pair, words: tuple[str, ...]) -> None:
    """Its words and variables lay where ours are put, and there were more."""
    (box, _) = boxes(pair, {}, {})
    longer = process_of("true", "a", "b", "c", "d", env=["PATH=/none:/sbin:/bin", "ONE=1", "TWO=2", "ONE=3"])
    read_all(box.exec("a1", longer)[0])
    assert box.expect(ExecEnded).record.code == 0
    out, _ = box.exec("a2", process_of("sh", "-c", 'echo "$#"; env', "sh", *words, env=["PATH=/bin", "TWO=4", "TWO=5"]))
    assert set(read_all(out).decode().split()) == {str(len(words)), "PATH=/bin", "TWO=5", "PWD=/", "SHLVL=1"}


def test_fds_come_back(pair: Pair) -> None:
    """After execs that run and ones that are refused the shim holds what it held."""
    (box, _) = boxes(pair, {}, {})

    def held() -> list[str]:
        return sorted(os.readlink(entry.path) for entry in os.scandir(f"/proc/{box.shim_pid}/fd"))

    read_all(box.exec("a0", process_of("true"))[0])
    box.expect(ExecEnded)
    before = held()
    for number in range(5):
        read_all(box.exec(f"b{number}", process_of("true"))[0])
        assert box.expect(ExecEnded).record.code == 0
        box.exec(f"c{number}", process_of("no-such-program"))
        assert re.search("no such file", str(box.expect(ExecFailed).trouble))
    assert held() == before
