"""Words of the command line: flags, values, places, help. No supervisor."""

import subprocess
import sys
from pathlib import Path

import pytest

from asyncrt.cli import options
from asyncrt.cli.env import variables
from asyncrt.cli.flags import Flag, read
from asyncrt.cli.kill import number
from asyncrt.cli.lines import Lines
from asyncrt.cli.main import main
from asyncrt.cli.places import places
from asyncrt.cli.say import plain, span
from asyncrt.cli.verb import VERBS, load
from asyncrt.errors import BadRequest
from asyncrt.model.options import Options, Volume

FLAGS = (
    Flag("detach", "d", "", "."),
    Flag("interactive", "i", "", "."),
    Flag("env", "e", "V", "."),
    Flag("memory", "m", "SIZE", "."),
)


def wish(*argv: str) -> Options:
    return options.options(read("run", argv, options.FLAGS, stop=True))


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No command of a test may reach a supervisor, or make a directory."""
    monkeypatch.setenv("ASYNCRT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("ASYNCRT_SOCKET", raising=False)
    return tmp_path


def test_flags_in_docker_s_shapes() -> None:
    argv = ["-di", "-eA=1", "-e", "B=2", "--env=C=3", "--env", "D", "-m=1g", "image", "-d", "--env"]
    words = read("run", argv, FLAGS, stop=True)
    assert words.on("detach")
    assert words.on("interactive")
    assert words.all("env") == ["A=1", "B=2", "C=3", "D"]
    assert words.one("memory") == "1g"
    assert words.rest == ["image", "-d", "--env"]


def test_flags_may_stand_behind_words_where_none_stops_them() -> None:
    words = read("rm", ["a", "-d", "b", "--detach=false", "--", "-x"], FLAGS)
    assert not words.on("detach")
    assert words.rest == ["a", "b", "-x"]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--memroy", "1"], "run --memroy: unknown flag (did you mean --memory?)"),
        (["--mem=1"], "run --mem: unknown flag (did you mean --memory?)"),
        (["-dx"], "run -x: unknown flag (--help lists them)"),
        (["-m"], "run --memory: SIZE is missing behind it"),
        (["--detach=maybe"], 'run --detach: "maybe" is neither true nor false'),
    ],
)
def test_a_wrong_flag_is_named(argv: list[str], line: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read("run", argv, FLAGS, stop=True)
    assert str(caught.value) == line
    assert caught.value.code == 125


def test_options_from_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "1")
    file = tmp_path / "env"
    file.write_text("# comment\n\nFROM_FILE= blank kept \nA=file\nOURS\nNOT_OURS\n")
    made = wish(
        *("--name", "web-1", "-e", "A=1", "-e", "OURS", "--env-file", str(file), "-w", "/x", "-u", "1:2"),
        *("-v", "/a:/b", "-v", "/c:/d:ro", "-m", "512m", "--cpus", "1.5", "--cpuset-cpus", "0-1"),
        *("--pids-limit", "100", "-h", "box", "--read-only", "--entrypoint", "/bin/sh", "--cap-add", "ALL"),
        *("--cap-drop", "CHOWN", "--security-opt", "seccomp=unconfined", "--security-opt=no-new-privileges"),
        *("-i", "--rm", "rootfs:/srv/x", "-c", "--rm"),
    )
    assert made == Options(
        image="rootfs:/srv/x",
        args=("-c", "--rm"),
        name="web-1",
        env=("FROM_FILE= blank kept ", "A=1", "OURS=1"),
        workdir="/x",
        user="1:2",
        volumes=(Volume("/a", "/b"), Volume("/c", "/d", True)),
        memory=512 << 20,
        cpus=1.5,
        cpuset_cpus="0-1",
        pids_limit=100,
        hostname="box",
        read_only=True,
        entrypoint=("/bin/sh",),
        cap_add=("ALL",),
        cap_drop=("CHOWN",),
        seccomp="unconfined",
        no_new_privileges=True,
        stdin=True,
        auto_remove=True,
    )


@pytest.mark.parametrize(
    ("flag", "value", "cause"),
    [
        ("--memory", "12x", '"12x" is no size'),
        ("--memory", "1k", '"1k" is too small'),
        ("--cpus", "-1", '"-1" is no number of cpus'),
        ("--cpus", "nan", '"nan" is no number of cpus'),
        ("--pids-limit", "abc", '"abc" is no number of processes'),
        ("--pids-limit", "-2", '"-2" is no number of processes'),
        ("--volume", "data:/x", 'its source "data" is not absolute'),
        ("--volume", "/data:x", 'its target "x" is not absolute'),
        ("--volume", "/data", '"/data" has another shape'),
        ("--volume", "/data:/x:rx", '"/data:/x:rx" has another shape'),
        ("--volume", "/data:/..", '"/data:/.." would hide the whole image'),
        ("--security-opt", "seccomp", '"seccomp" is not known'),
        ("--security-opt", "seccomp=", '"seccomp=" is not known'),
        ("--security-opt", "no-new-privileges=maybe", '"no-new-privileges=maybe" is not known'),
        ("--security-opt", "apparmor=x", "seccomp=FILE, seccomp=unconfined and no-new-privileges are known"),
        ("--security-opt", "seccomp=/nonexistent", "no such file or directory"),
        ("--security-opt", "seccomp=/dev/null", "it is empty"),
        ("--env", "", '"" has no name'),
        ("--env", "=x", '"=x" has no name'),
        ("--env-file", "/nonexistent", "no such file or directory"),
        ("--count", "0", '"0" is no number from 1 to 10000'),
        ("--count", "-3", '"-3" is no number from 1 to 10000'),
        ("--count", "1e3", '"1e3" is no number from 1 to 10000'),
        ("--name", "-x", '"-x" does not fit'),
        ("--name", "x", '"x" does not fit'),
        ("--name", "a/b", '"a/b" does not fit'),
        ("--name", "ab\n", "does not fit"),
        ("--cpuset-cpus", "0-", '"0-" does not fit'),
        ("--hostname", "a" * 65, "65 bytes are too long"),
        ("--hostname", "-a", '"-a" does not fit'),
        ("--workdir", "x", '"x" is not absolute'),
        ("--user", "", '"" is no user'),
        ("--user", "a:b:c", '"a:b:c" is no user'),
        ("--cap-add", "", "it is empty"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_bad_value_is_one_line_and_125(
    nowhere: Path, capfd: pytest.CaptureFixture[str], verb: str, flag: str, value: str, cause: str
) -> None:
    assert main([verb, flag, value, "host:", "true"]) == 125
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"asyncrt: read {flag}")
    assert plain(cause) in shown.err
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "code", "line"),
    [
        (["rn"], 1, 'read verb "rn": no such verb (did you mean'),
        (["zzz"], 1, 'read verb "zzz": no such verb (see: asyncrt --help)'),
        (["--stat", "x", "ps"], 125, "read --stat: unknown flag (did you mean --state?)"),
        (["--root", "", "ps"], 125, "read --root: it is no path"),
        (["ps", "--root", "/x"], 125, "ps --root: unknown flag"),
        (["ps", "--al"], 125, "ps --al: unknown flag (did you mean --all?)"),
        (["ps", "--format", "yaml"], 1, 'read --format: "yaml" is not known'),
        (["ps", "x"], 1, 'ps "x": one word too many'),
        (["run"], 125, "run: too few words (usage: asyncrt run"),
        (["run", "-t", "--count", "2", "host:"], 125, "run --tty: several containers cannot share our terminal"),
        (["run", "-it", "host:", "sh"], 1, "use stdin: the input device is not a TTY"),
        (["exec", "-it", "web", "sh"], 1, "use stdin: the input device is not a TTY"),
        (["exec", "--detach-keys", "ctrl-1", "web", "sh"], 125, 'read --detach-keys: "ctrl-1" is no key'),
        (["run", "--log-driver", "syslog", "host:"], 125, 'read --log-driver: "syslog" is none'),
        (["run", "--log-opt", "max-size=1k", "host:"], 125, "read --log-opt: max-size"),
        (["run", "--log-opt", "max-file=0", "host:"], 125, "read --log-opt:"),
        (["attach"], 1, "attach: too few words"),
        (["run", "-i", "--count", "2", "host:"], 125, "run --interactive: one stdin cannot feed several"),
        (["exec", "-e", "=", "web", "sh"], 125, "read --env:"),
        (["exec", "web"], 125, "exec: too few words"),
        (["kill", "-s", "NOPE", "x"], 1, 'read --signal: "NOPE" is no signal'),
        (["stop", "-t", "-1", "x"], 1, 'read --time: "-1" is no number of seconds'),
        (["stop", "-t", "nan", "x"], 1, 'read --time: "nan" is no number of seconds'),
        (["rm"], 1, "rm: give either names or --all"),
        (["rm", "--all", "x"], 1, "rm: give either names or --all"),
        (["wait"], 1, "wait: too few words"),
        (["events", "--since-seq", "x"], 1, 'read --since-seq: "x" is no sequence number'),
        (["daemon", "strop"], 1, 'daemon "strop": no such word'),
    ],
)
def test_what_makes_no_sense_is_one_line_and_changes_nothing(
    nowhere: Path, capfd: pytest.CaptureFixture[str], argv: list[str], code: int, line: str
) -> None:
    assert main(argv) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"asyncrt: {line}")
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_that_names_its_flags(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: asyncrt " + verb)
    assert all(f"--{flag.long}" in out for flag in load(verb).flags if flag.about)
    assert max(map(len, out.split("\n"))) <= 100


def test_help_behind_the_image_belongs_to_the_container() -> None:
    from asyncrt.cli.main import _asks_help

    assert not _asks_help(load("run"), ["-e", "A=1", "host:", "ls", "--help"])
    assert not _asks_help(load("run"), ["-h", "--help"[2:], "host:"])
    assert _asks_help(load("run"), ["-d", "--help"])


def test_help_is_quick_and_loads_little() -> None:
    script = (
        "import resource, sys; from asyncrt.cli.main import main; main(['--help'])\n"
        "heavy = {'msgspec', 'trio', 'anyio', 'argparse', 'subprocess', 'asyncio'} & set(sys.modules)\n"
        "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(sorted(heavy), usage.ru_utime + usage.ru_stime, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy, seconds = done.stderr.rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 0.060


def test_places_flags_before_environment_before_defaults(tmp_path: Path) -> None:
    assert places({}, {}) == ("/var/lib/asyncrt", "/run/asyncrt", "/run/asyncrt/asyncrt.sock")
    made = places({"state": "/s"}, {"ASYNCRT_STATE": "/no", "ASYNCRT_ROOT": "/r/../q", "ASYNCRT_SOCKET": ""})
    assert made == ("/q", "/s", "/s/asyncrt.sock")
    assert made.arguments() == ["--root", "/q", "--state", "/s", "--socket", "/s/asyncrt.sock"]
    assert made.log == "/s/daemon.log"


def test_variables_words_over_files(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("A=1\nB C=2\n")
    with pytest.raises(BadRequest, match=r"bad:2: the name \"B C\" has a blank"):
        variables([str(bad)], [], {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("RTMIN+3", 37),
        ("SIGRTMAX-1", 63),
        ("RTMIN", 34),
    ],
)
def test_signals_by_any_name(text: str, expected: int) -> None:
    assert number(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65", "SIG", "RTMIN+99", "RTMAX+1", "TERMINATE"])
def test_no_signals(text: str) -> None:
    with pytest.raises(BadRequest):
        number(text)


def test_lines_are_whole_and_named() -> None:
    lines = Lines("a")
    assert lines.feed(b"one\ntw") == b"a | one\n"
    assert lines.feed(b"o\n\n") == b"a | two\na | \n"
    assert lines.feed(b"rest") == b""
    assert lines.end() == b"a | rest\n"
    assert lines.end() == b""
    assert lines.feed(b"x" * 200_000).count(b"\n") == 3
    assert lines.taken == 9 + 4 + 200_000 - 1 + 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3 * 3600, "3 hours"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert plain("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
