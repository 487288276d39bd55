"""The process as it sees itself: user, capabilities, limits, cwd."""

import os
import shutil
from pathlib import Path

import pytest

from shimd.linux import identity
from tests.shimd.configs import CAPABILITIES, MOUNTS, config, process_of, shell
from tests.shimd.line import gone, read_all
from tests.shimd.stage import Stage, StartFailed, TemplateFailed

pytestmark = pytest.mark.root
STATUS = 'while read -r line; do echo "$line"; done < /proc/self/status'
WITHOUT_PROC = [mount for mount in MOUNTS if mount["destination"] != "/proc"]


def status(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def sets(text: str) -> list[int]:
    found = status(text)
    return [int(found[f"Cap{name}"], 16) for name in ("Bnd", "Eff", "Inh", "Prm", "Amb")]


def test_capabilities_of_root(stage: Stage) -> None:
    mask = identity.mask(CAPABILITIES)
    assert sets(stage.output(shell(STATUS))) == [mask, mask, 0, mask, 0]


def test_no_capabilities_at_all(stage: Stage) -> None:
    assert sets(stage.output(shell(STATUS, process={"capabilities": {}}))) == [0] * 5


def test_a_user_keeps_none_but_ambient_ones(stage: Stage) -> None:
    one = ["CAP_NET_BIND_SERVICE"]
    held = dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), one)
    user = {"uid": 1000, "gid": 1000}
    assert sets(stage.output(shell(STATUS, process={"user": user, "capabilities": held}))) == [1 << 10] * 5
    mask = identity.mask(CAPABILITIES)
    assert sets(stage.output(shell(STATUS, process={"user": user}))) == [mask, 0, 0, 0, 0]


def test_without_a_word_about_capabilities_root_keeps_all(stage: Stage) -> None:
    all_of = identity.bounding()
    assert sets(stage.output(shell(STATUS, process={"capabilities": None}))) == [all_of, all_of, 0, all_of, 0]


def test_the_image_has_no_say_in_the_bounding_set(stage: Stage) -> None:
    """A /proc that is the image's own directory claims that the kernel knows one capability."""
    container = stage.prepare()
    for name, text in (("sys/kernel/cap_last_cap", "0\n"), ("self/status", "CapBnd:\t0000000000000001\n")):
        path = container.base / "upper/proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    document = config("sleep", "60", mounts=WITHOUT_PROC, linux={"maskedPaths": [], "readonlyPaths": []})
    stage.spawn(container, stage.template(document))
    with open(f"/proc/{container.pid}/status") as file:
        assert sets(file.read())[0] == identity.mask(CAPABILITIES)


def test_without_proc_it_runs(stage: Stage) -> None:
    document = config("echo", "runs", mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})
    assert stage.output(document) == "runs\n"


@pytest.mark.parametrize("wish", [True, False])
def test_no_new_privs(stage: Stage, wish: bool) -> None:
    said = status(stage.output(shell(STATUS, process={"noNewPrivileges": wish})))
    assert said["NoNewPrivs"] == str(int(wish))


def test_signals_are_as_a_program_expects(stage: Stage) -> None:
    said = status(stage.output(config("cat", "/proc/self/status")))
    assert [int(said[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")] == [0] * 4


def test_user_and_groups(stage: Stage) -> None:
    user = {"uid": 1000, "gid": 1000, "additionalGids": [50, 4711], "umask": 0o77}
    script = f"{STATUS}; touch /tmp/x; stat -c 'mode:%a %u %g' /tmp/x"
    said = status(stage.output(shell(script, process={"user": user})))
    assert said["Uid"].split() == said["Gid"].split() == ["1000"] * 4
    assert said["Groups"] == "50 1000 4711" or said["Groups"].split() == ["50", "4711"]
    assert said["mode"] == "600 1000 1000"


def test_the_usual_umask(stage: Stage) -> None:
    assert stage.output(shell("umask")) == "0022\n"


@pytest.mark.parametrize("uid", [0, 1000])
def test_stdout_can_be_opened_by_name(stage: Stage, uid: int) -> None:
    process = {"user": {"uid": uid, "gid": uid}}
    container = stage.run(shell("echo out >/dev/stdout; echo err >/proc/self/fd/2", process=process))
    assert (container.log("stdout"), container.log("stderr")) == (b"out\n", b"err\n")


def test_rlimits(stage: Stage) -> None:
    limits = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": (1 << 64) - 1},
        {"type": "RLIMIT_NPROC", "soft": 1000, "hard": 1000},
    ]
    lines = stage.output(config("cat", "/proc/self/limits", process={"rlimits": limits})).splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max open files"] == ["100", "200"]
    assert found["Max core file size"] == ["0", "unlimited"]
    assert found["Max processes"] == ["1000", "1000"]


def test_an_rlimit_that_the_kernel_refuses(stage: Stage) -> None:
    limits = [{"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}]
    with pytest.raises(StartFailed, match=r"set RLIMIT_NOFILE to .*: operation not permitted"):
        stage.start(config("true", process={"rlimits": limits}))


@pytest.mark.parametrize("score", [-500, 0, 1000])
def test_oom_score(stage: Stage, score: int) -> None:
    if score < 0 and not identity.bounding() >> identity.NUMBER_OF["CAP_SYS_RESOURCE"] & 1:
        pytest.skip("this root may not lower a score (no CAP_SYS_RESOURCE)")
    document = config("cat", "/proc/self/oom_score_adj", process={"oomScoreAdj": score})
    assert stage.output(document) == f"{score}\n"


def test_cwd_is_made(stage: Stage) -> None:
    script = "pwd; stat -c '%a %u' ."
    document = shell(script, process={"cwd": "/srv/new/place"})
    assert stage.output(document) == "/srv/new/place\n755 0\n"


def test_cwd_through_a_symlink_of_the_image(stage: Stage) -> None:
    assert stage.output(shell("pwd -P", process={"cwd": "/usr/bin"})) == "/bin\n"


def test_a_cwd_that_is_a_file(stage: Stage) -> None:
    with pytest.raises(StartFailed, match=r"/etc/passwd: (not a directory|file exists)"):
        stage.start(config("true", process={"cwd": "/etc/passwd"}))


def test_nothing_of_the_shim_is_open_inside(stage: Stage) -> None:
    assert stage.output(config("ls", "/proc/self/fd")).split() == ["0", "1", "2", "3"]


def test_init_is_pid_1_and_leads_its_session(stage: Stage) -> None:
    script = "read -r pid name state parent group session rest </proc/self/stat; echo $pid $parent $group $session"
    said = stage.output(shell(script))
    assert said == "1 0 1 1\n"


def test_stdin_is_the_null_device(stage: Stage) -> None:
    assert stage.output(config("readlink", "/proc/self/fd/0")) == "/dev/null\n"


def test_no_tty_of_the_machine(stage: Stage) -> None:
    assert stage.output(shell("(: </dev/tty) 2>/dev/null && echo tty || echo no tty")) == "no tty\n"


def test_a_nul_in_the_command_is_refused(stage: Stage) -> None:
    with pytest.raises((StartFailed, TemplateFailed)) as caught:
        stage.start(config("echo", "a\0b"))
    assert "bug" not in str(caught.value)


def test_an_exec_has_the_same_walls(stage: Stage) -> None:
    container = stage.start(config("sleep", "60"))
    out, _ = container.exec("status", process_of("cat", "/proc/self/status"))
    text = read_all(out).decode()
    mask = identity.mask(CAPABILITIES)
    assert sets(text) == [mask, mask, 0, mask, 0]
    assert status(text)["SigBlk"] == "0" * 16
    assert status(text)["SigIgn"] == "0" * 16


def test_it_may_not_be_read_while_it_is_set_up(stage: Stage) -> None:
    """After exec it is an everyday process again: dumpable, so /proc/PID belongs to its user."""
    container = stage.start(config("sleep", "60", process={"user": {"uid": 1000, "gid": 1000}}))
    assert os.stat(f"/proc/{container.pid}/mem").st_uid == 1000


@pytest.mark.parametrize("kept", [True, False])
def test_a_set_uid_program_and_the_parent_death_signal(stage: Stage, rootfs: Path, kept: bool) -> None:
    """Its exec clears the signal, unless no_new_privs keeps it from gaining anything (docs/walks/shim-death.md)."""
    if not (rootfs / "bin/busybox").exists():
        pytest.skip("needs a static busybox: another program lacks its libraries there")
    container = stage.prepare()
    program = container.base / "upper/bin/sleep"
    program.parent.mkdir()
    shutil.copy(rootfs / "bin/busybox", program)
    program.chmod(0o4755)
    document = config("sleep", "60", process={"user": {"uid": 1000, "gid": 1000}, "noNewPrivileges": kept})
    stage.spawn(container, stage.template(document))
    os.kill(container.shim_pid, 9)
    assert gone(container.shim_pid)
    assert gone(container.pid, 10 if kept else 0.5) == kept
    if not kept:
        os.kill(container.pid, 9)
        assert gone(container.pid)
