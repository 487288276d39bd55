"""What containers have tried before: each test is an attack that once worked on somebody's runtime."""

import os
import re
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimd.wire.messages import ExecFailed
from tests.shimd.agent import Agent
from tests.shimd.configs import config, process_of, shell
from tests.shimd.line import read_all
from tests.shimd.stage import Container, Stage, StartFailed, opened

pytestmark = pytest.mark.root
OURSELVES = "it leads to the runtime itself"
SCRIPTS = {
    "link": None,  # a symlink to /proc/self/exe
    "script": "#!/proc/self/exe\n",
    "nested": "#!/bin/script\n",
    "spaced": "#! \t/proc/self/exe -c x\n",
}


@pytest.fixture(scope="module")
def bare(rootfs: Path) -> Iterator[Stage]:
    """A stage whose interpreter is not on a read-only mount: what it runs has to be looked at."""
    if os.statvfs(sys.executable).f_flag & os.ST_RDONLY:
        pytest.skip("the interpreter cannot be written on this machine: there is nothing to guard")
    with opened(rootfs, sealed=False) as made:
        yield made


@pytest.fixture
def unsealed(bare: Stage) -> Iterator[Stage]:
    yield bare
    bare.empty()


def trapped(stage: Stage) -> Container:
    """A container whose image holds the traps."""
    container = stage.prepare()
    for name, text in SCRIPTS.items():
        path = container.base / "upper/bin" / name
        path.parent.mkdir(exist_ok=True)
        if text is None:
            path.symlink_to("/proc/self/exe")
        else:
            path.write_text(text)
            path.chmod(0o755)
    return container


@pytest.mark.parametrize("program", ["/proc/self/exe", "/proc/1/exe", "/bin/link", "script", "nested", "spaced"])
def test_the_runtime_does_not_run_itself(unsealed: Stage, program: str) -> None:
    """CVE-2019-5736: whoever gets the machine's interpreter to run inside can write it by /proc/PID/exe."""
    container = trapped(unsealed)
    unsealed.spawn(container, unsealed.template(config(program)))
    with pytest.raises(StartFailed, match=OURSELVES) as caught:
        container.started()
    assert caught.value.trouble.code == 126


@pytest.mark.parametrize("program", ["/proc/self/exe", "/bin/link", "script"])
def test_an_exec_does_not_run_the_runtime(unsealed: Stage, program: str) -> None:
    container = trapped(unsealed)
    unsealed.spawn(container, unsealed.template(config("sleep", "60")))
    container.started()
    container.exec("e1", process_of(program))
    failed = container.expect(ExecFailed)
    assert isinstance(failed, ExecFailed)
    assert failed.trouble.cause == OURSELVES


def test_a_script_that_is_not_ours_runs(stage: Stage) -> None:
    container = stage.prepare()
    (container.base / "upper/bin").mkdir()
    (container.base / "upper/bin/own").write_text("#!/bin/sh\necho script\n")
    (container.base / "upper/bin/own").chmod(0o755)
    stage.spawn(container, stage.template(config("own")))
    container.ended()
    assert container.log("stdout") == b"script\n"


@pytest.mark.parametrize("cwd", ["/proc/self/fd/7", "/proc/self/fd/8/../../..", "/proc/1/cwd", "/proc/self/root/.."])
def test_a_cwd_that_leads_out(stage: Stage, cwd: str) -> None:
    """CVE-2024-21626: a directory of the machine that the runtime left open, as the working directory."""
    try:
        container = stage.start(shell("cat /etc/hostname; pwd -P; sleep 60", process={"cwd": cwd}))
    except StartFailed:
        return  # the usual: there is no such fd, or it lies outside the container's root
    assert os.stat(f"/proc/{container.pid}/cwd/.").st_dev == os.stat(f"/proc/{container.pid}/root/.").st_dev


def test_no_descriptor_of_ours_is_open_at_exec(stage: Stage) -> None:
    """Neither in init nor in an exec, whatever the shim holds."""
    container = stage.start(config("sleep", "60"))
    assert sorted(os.listdir(f"/proc/{container.pid}/fd")) == ["0", "1", "2"]
    out, _ = container.exec("e1", process_of("sh", "-c", "ls /proc/$$/fd"))
    assert set(read_all(out).decode().split()) <= {"0", "1", "2", "3"}


@pytest.mark.parametrize("user", [0, 1000])
def test_no_inheritable_capability(stage: Stage, user: int) -> None:
    """CVE-2022-29162: with inheritable ones a file's capabilities could be taken up by anybody."""
    process: dict[str, Any] = {"user": {"uid": user, "gid": user}}
    container = stage.start(config("sleep", "60", process=process))
    lines = Path(f"/proc/{container.pid}/status").read_text().splitlines()
    assert "CapInh:\t0000000000000000" in lines
    assert "CapAmb:\t0000000000000000" in lines
    said = container.run_inside("grep", "-E", "CapInh|CapAmb", "/proc/self/status", **process)
    assert said == "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n"


def test_an_exec_on_its_way_cannot_be_looked_into(stage: Stage, tmp_path: Path) -> None:
    """CVE-2016-9962: until the user's program runs, nobody inside may look into the process (PR_SET_DUMPABLE).

    Its filter has it stand still right before exec: it is in all namespaces, with the user and the capabilities of
    those who look, whom nothing else keeps off.
    """
    held, go = threading.Event(), threading.Event()
    go.set()
    agent = Agent(tmp_path / "agent", before=lambda: (held.set(), go.wait(60)))
    rule = {"names": ["umask"], "action": "SCMP_ACT_NOTIFY"}
    wish = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(tmp_path / "agent"), "syscalls": [rule]}
    try:
        container = stage.start(config("sleep", "60", linux={"seccomp": wish}))
        held.clear()
        go.clear()
        out, _ = container.exec("e1", process_of("echo", "went on"))
        assert held.wait(60)
        # With no_new_privs the filter comes last: who looks is not held.
        script = (
            "for p in /proc/[0-9]*; do echo $p; readlink $p/exe; ls $p/cwd $p/fd 2>/dev/null; done; cat /proc/*/environ"
        )
        seen = container.run_inside("sh", "-c", f"({script}) 2>&1", noNewPrivileges=True)
        go.set()
        assert read_all(out) == b"went on\n"
        container.kill()
        container.ended()
    finally:
        go.set()
        stage.empty()
        agent.close()
    places = [line for line in seen.splitlines() if re.fullmatch("/proc/[0-9]+", line)]
    assert len(places) >= 3  # init, who looks, and who is looked at
    assert os.path.basename(os.path.realpath(sys.executable)) not in seen
    assert "ermission denied" in seen


def test_the_images_proc_is_not_asked_for_the_score(stage: Stage) -> None:
    """CVE-2019-19921: without a procfs of its own, the image's directory /proc must catch nothing."""
    container = stage.prepare()
    trap = container.base / "upper/proc/self"
    trap.mkdir(parents=True)
    (trap / "oom_score_adj").write_text("untouched\n")
    mounts: list[dict[str, Any]] = []
    masks = {"maskedPaths": [], "readonlyPaths": []}
    document = config("sleep", "60", process={"oomScoreAdj": 500}, mounts=mounts, linux=masks)
    stage.spawn(container, stage.template(document))
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == "500\n"
    assert (trap / "oom_score_adj").read_text() == "untouched\n"
    assert stat.S_ISREG((trap / "oom_score_adj").stat().st_mode)
