"""The reader of other suites' results, on what bats and crun's tests really write; and the scripts around it."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.foreign import taps

HERE = Path(__file__).parent

BATS = """\
1..4\r
ok 1 runc run [seccomp] (with brackets)\r
not ok 2 exec --cgroup # timeout after 60s\r
# (in test file exec.bats, line 7)\r
#   `[ "$status" -eq 0 ]' failed\r
ok 3 checkpoint # skip test requires criu\r
"""
CRUN = """\
1..3
ok 1 - cwd # 0.123s
not ok 2 - caps # 1.5s
ok 3 - sd-notify #SKIP no systemd # 0.001s
# exit status 0
"""


def test_what_bats_writes() -> None:
    cases = taps.parse(BATS.splitlines(keepends=True))
    assert {name: case["state"] for name, case in cases.items()} == {
        "runc run [seccomp] (with brackets)": "pass",
        "exec --cgroup": "fail",
        "checkpoint": "skip",
        "(case 4)": "lost",
    }
    assert cases["exec --cgroup"]["note"].split("\n") == [
        "timeout after 60s",
        "(in test file exec.bats, line 7)",
        '`[ "$status" -eq 0 ]\' failed',
    ]
    assert cases["checkpoint"]["note"] == "test requires criu"


def test_what_cruns_tests_write() -> None:
    cases = taps.parse(CRUN.splitlines())
    assert {name: case["state"] for name, case in cases.items()} == {"cwd": "pass", "caps": "fail", "sd-notify": "skip"}


def test_a_name_twice_is_two_cases() -> None:
    assert len(taps.parse(["1..2", "ok 1 same", "not ok 2 same"])) == 2


def test_a_run_and_its_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("one", BATS), ("two", BATS.replace("not ok 2", "ok 2"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "exec.tap").write_text(text)
        assert taps.main(["collect", str(tmp_path / name), f"runtime {name}", "/cache/runc-1"]) == 0
    document = json.loads((tmp_path / "one/results.json").read_text())
    assert (document["runtime"], document["suite"]) == ("runtime one", "runc-1")
    assert taps.main(["table", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["all", "1", "1", "1", "1"]
    assert taps.main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "runc-1 over runtime one: 1 pass, 1 fail, 1 skip, 1 lost",
        "runc-1 over runtime two: 2 pass, 0 fail, 1 skip, 1 lost",
        "  fail -> pass   exec: exec --cgroup",
    ]


def test_words_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert taps.main(["sing"]) == 2
    assert "compare FOLDER FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("script", sorted(path.name for path in HERE.glob("*.sh")))
def test_scripts_are_portable_shell(script: str) -> None:
    first, *_ = (HERE / script).read_text().splitlines()
    assert first == "#!/bin/sh" or script == "common.sh"  # which is read by the others
    subprocess.run(["sh", "-n", HERE / script], check=True)


@pytest.mark.parametrize(
    ("runtime", "words", "left"),
    [
        ("runc", ["--cgroup-manager", "cgroupfs", "--root", "/r", "run", "--config", "x", "id"], "--root /r run id"),
        ("other", ["--cgroup-manager", "cgroupfs", "run", "--config", "x", "id"], "run --config x id"),
        ("runc", ["--cgroup-manager=systemd", "state", "two words"], "state two words"),
        ("runc", ["exec", "id", "/init", ""], "exec id /init "),
    ],
)
def test_cruns_dialect_is_left_out(tmp_path: Path, runtime: str, words: list[str], left: str) -> None:
    program = tmp_path / runtime
    program.write_text('#!/bin/sh\nprintf "%s" "$*"\necho\n')
    program.chmod(0o755)
    environment = {"FOREIGN_RUNTIME": str(program)}
    words = ["sh", str(HERE / "as-crun.sh"), *words]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == f"{left}\n"
