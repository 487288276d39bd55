"""linux.seccomp as the container feels it, on run and on exec."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shimd.linux import seccomp as kernel
from shimd.wire.messages import ExecFailed
from tests.shimd.agent import Agent
from tests.shimd.configs import config, process_of, shell
from tests.shimd.line import read_all, until
from tests.shimd.stage import Stage, StartFailed

pytestmark = pytest.mark.root
try:
    kernel.resolve("read")
except kernel.Unavailable as missing:
    pytest.skip(f"no libseccomp: {missing}", allow_module_level=True)

USUAL: dict[str, Any] = {"defaultAction": "SCMP_ACT_ALLOW"}


def denied(*names: str, **rule: Any) -> dict[str, Any]:
    return {**USUAL, "syscalls": [{"names": list(names), "action": "SCMP_ACT_ERRNO", **rule}]}


@pytest.mark.parametrize("wish", [True, False])
def test_a_denied_call_fails(stage: Stage, wish: bool) -> None:
    """For root with no_new_privs and without: the filter is loaded at different places."""
    script = "mkdir /tmp/a 2>&1; ls /tmp; grep Seccomp: /proc/self/status"
    document = shell(script, process={"noNewPrivileges": wish}, linux={"seccomp": denied("mkdir", "mkdirat")})
    said = stage.output(document)
    assert "Operation not permitted" in said
    assert said.splitlines()[-1].split() == ["Seccomp:", "2"]


@pytest.mark.parametrize("wish", [True, False])
def test_a_user_without_capabilities_is_filtered_too(stage: Stage, wish: bool) -> None:
    process = {"noNewPrivileges": wish, "user": {"uid": 1000, "gid": 1000}, "capabilities": {}}
    document = shell("mkdir /tmp/a 2>&1; id -u", process=process, linux={"seccomp": denied("mkdir", "mkdirat")})
    said = stage.output(document)
    assert "Operation not permitted" in said
    assert said.endswith("1000\n")


def test_another_errno(stage: Stage) -> None:
    document = shell("mkdir /tmp/a 2>&1; true", linux={"seccomp": denied("mkdir", "mkdirat", errnoRet=errno.EXDEV)})
    assert "cross-device" in stage.output(document).lower()


@pytest.mark.parametrize(("action", "signal"), [("SCMP_ACT_KILL_PROCESS", 31), ("SCMP_ACT_TRAP", 31)])
def test_a_deadly_call(stage: Stage, action: str, signal: int) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": action}
    container = stage.start(config("mkdir", "/tmp/a", linux={"seccomp": {**USUAL, "syscalls": [rule]}}))
    assert container.ended().record.signal == signal


@pytest.mark.busybox
def test_execve_is_all_that_a_strict_filter_must_allow(stage: Stage) -> None:
    """With no_new_privs nothing of ours runs under the filter: sendto, by which init says Ready, is denied here."""
    wish = denied("sendto", "sendmsg", "setgroups", "setresuid", "prctl", "capset", "umask", "close", "fchown")
    document = config("echo", "runs", process={"noNewPrivileges": True}, linux={"seccomp": wish})
    assert stage.output(document) == "runs\n"


def test_a_filter_that_forbids_execve(stage: Stage) -> None:
    document = config("true", process={"noNewPrivileges": True}, linux={"seccomp": denied("execve")})
    with pytest.raises(StartFailed, match="run true: operation not permitted") as caught:
        stage.start(document)
    assert caught.value.trouble.code == 126


def test_an_exec_is_filtered(stage: Stage) -> None:
    container = stage.start(config("sleep", "60", linux={"seccomp": denied("mkdir", "mkdirat")}))
    for wish in (True, False):
        said = container.run_inside("sh", "-c", "mkdir /tmp/a 2>&1; ls /tmp", noNewPrivileges=wish)
        assert "Operation not permitted" in said
        assert said.count("\n") == 1


def test_the_flags_are_taken(stage: Stage) -> None:
    wish = {
        **USUAL,
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"],
    }
    assert stage.output(config("grep", "Seccomp:", "/proc/self/status", linux={"seccomp": wish})).split()[1] == "2"


@pytest.fixture  # asked for before `stage`: an agent's calls end when their containers do
def places(tmp_path: Path) -> Iterator[list[Agent]]:
    agents: list[Agent] = []
    yield agents
    for agent in agents:
        agent.close()


def notified(path: Path, *names: str) -> dict[str, Any]:
    rule = {"names": list(names), "action": "SCMP_ACT_NOTIFY"}
    return {**USUAL, "listenerPath": str(path), "listenerMetadata": "who asks", "syscalls": [rule]}


@pytest.mark.parametrize("wish", [True, False])
def test_a_listener_decides(places: list[Agent], stage: Stage, tmp_path: Path, wish: bool) -> None:
    places.append(agent := Agent(tmp_path / "agent", errno.EMLINK))
    document = config(
        *("sh", "-c", "mkdir /tmp/a 2>&1; sleep 60"),
        process={"noNewPrivileges": wish},
        linux={"seccomp": notified(tmp_path / "agent", "mkdir", "mkdirat")},
        annotations={"a": "b"},
    )
    container = stage.start(document)
    out, _ = container.exec("e1", process_of("sh", "-c", "mkdir /tmp/b 2>&1", noNewPrivileges=wish))
    assert "too many links" in read_all(out).decode().lower()
    first, second = agent.messages
    assert first["pid"] == container.pid
    assert first["fds"] == ["seccompFd"]
    assert first["metadata"] == "who asks"
    assert first["ociVersion"] == "1.2.0"
    state = first["state"]
    assert (state["id"], state["status"], state["pid"]) == (container.id, "creating", container.pid)
    assert state["annotations"] == {"a": "b"}
    assert second["pid"] not in (0, container.pid)
    assert until(lambda: len(agent.calls) == 2)


def test_the_handing_over_may_itself_be_notified(places: list[Agent], stage: Stage, tmp_path: Path) -> None:
    places.append(agent := Agent(tmp_path / "agent"))
    wish = notified(tmp_path / "agent", "sendmsg", "sendto", "close", "recvmsg")
    assert stage.output(config("echo", "hi", linux={"seccomp": wish})) == "hi\n"
    assert agent.calls


def test_nobody_listens(stage: Stage, tmp_path: Path) -> None:
    document = config("true", linux={"seccomp": notified(tmp_path / "none", "mkdir")})
    with pytest.raises(StartFailed) as caught:
        stage.start(document)
    cause = "failed to connect with seccomp agent: no such file or directory"
    assert str(caught.value) == f"connect to seccomp listener {tmp_path}/none: {cause}"


def test_an_exec_whose_listener_is_gone(places: list[Agent], stage: Stage, tmp_path: Path) -> None:
    places.append(Agent(tmp_path / "agent"))
    container = stage.start(config("sleep", "60", linux={"seccomp": notified(tmp_path / "agent", "mkdir")}))
    (tmp_path / "agent").unlink()
    container.exec("e1", process_of("true"))
    failed = container.expect(ExecFailed)
    assert isinstance(failed, ExecFailed)
    assert "connect to seccomp listener" in str(failed.trouble)
